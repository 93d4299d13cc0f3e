"""A volume that the real command serves over NBD, and a client that writes to it at full speed."""

import signal
import socket
import struct
import subprocess
from pathlib import Path
from random import Random

from tests.attach.nbd_client import RawClient
from tests.cli.processes import command, environment
from tests.nbd import clients
from tests.stress.numbered_sectors import SECTOR, Numbers, Write, numbers_in
from tests.tidy.source_tree import ROOT

MIB = 1 << 20
_IN_FLIGHT_MAX = 16


class VolumeProcess:
    """``ebsim volume attach``, ready for clients."""

    def __init__(self, home: Path, volume_id: str, *, rate_mib: int | None) -> None:
        self._socket = home.parent / "s"
        options = ["--initialization-rate", str(rate_mib)] if rate_mib else []
        self._process = subprocess.Popen(
            command(
                "--region", "test", "volume", "attach", volume_id,
                "--socket", str(self._socket), *options,
            ),
            cwd=ROOT,
            env=environment(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        told = self._process.stdout.readline()
        assert told.startswith(b"nbd+unix"), self._process.communicate()[1]

    def connect(self) -> "WritingClient":
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._socket))
        return WritingClient(connection)

    def kill(self) -> None:
        """kill -9, in the middle of whatever it does."""
        self._process.kill()
        self._process.communicate()

    def end(self) -> None:
        """Let it finish and flush."""
        self._process.send_signal(signal.SIGTERM)
        _, errors = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, errors


class WritingClient:
    """Keeps many requests in flight, and knows which of them were answered."""

    def __init__(self, connection: socket.socket) -> None:
        self._raw = RawClient(connection)
        self._raw.enter()
        self._asked: dict[int, Write | None] = {}
        self._cookie = 0

    @property
    def in_flight(self) -> list[Write]:
        """Writes that were sent and not answered: done, or not, or in part."""
        return [write for write in self._asked.values() if write is not None]

    @property
    def is_full(self) -> bool:
        return len(self._asked) >= _IN_FLIGHT_MAX

    def send(self, write: Write) -> None:
        """Send a write that overlaps none in flight, and go on."""
        offset, size = write.first * SECTOR, write.count * SECTOR
        cookie = self._note(write)
        if write.number:
            self._raw.sock.sendall(clients.write(offset, write.data, cookie=cookie))
        else:
            self._raw.sock.sendall(clients.request(clients.ZEROES, offset, size, cookie=cookie))

    def flush(self) -> None:
        """Ask for a flush, and go on."""
        self._raw.sock.sendall(clients.request(clients.FLUSH, cookie=self._note(None)))

    def _note(self, write: Write | None) -> int:
        self._cookie += 1
        self._asked[self._cookie] = write
        return self._cookie

    def answered(self) -> Write | None:
        """Wait for an answer; the write that is done, ``None`` for a flush."""
        answer = self._raw.answer()
        assert answer.error == 0, answer
        return self._asked.pop(answer.cookie)

    def finish(self) -> list[Write]:
        """Wait for everything; the writes that are done."""
        done = [self.answered() for _ in range(len(self._asked))]
        return [write for write in done if write is not None]

    def read(self, first: int, count: int) -> Numbers:
        """The numbers of *count* sectors from *first* on; nothing is in flight."""
        assert not self._asked, "answers are read in turn"
        disk = bytearray()
        for offset in range(first * SECTOR, (first + count) * SECTOR, MIB):
            length = min(MIB, (first + count) * SECTOR - offset)
            self._raw.sock.sendall(clients.request(clients.READ, offset, length))
            disk += self._read_answer(offset, length)
        return numbers_in(disk)

    def _read_answer(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        while True:
            magic, flags, kind, _, size = struct.unpack(">IHHQI", self._raw.receive(20))
            payload = self._raw.receive(size)
            assert (magic, kind & 1 << 15) == (0x668E33EF, 0), payload
            if kind == 1:
                at = int.from_bytes(payload[:8], "big") - offset
                data[at : at + size - 8] = payload[8:]
            if flags & 1:
                return bytes(data)

    def close(self) -> None:
        self._raw.sock.close()


class Writer:
    """Sends random writes to the sectors from *first* on, and knows what every sector holds.

    Attributes:
        known: The numbers, as far as writes were answered.
        sent: All writes so far.
    """

    def __init__(self, known: Numbers, first: int, seed: int) -> None:
        self.known = known
        self.sent: list[Write] = []
        self._first = first
        self._random = Random(seed)

    def write(self, client: WritingClient, answers: int) -> None:
        """Keep *client* busy until that many answers have come."""
        while answers:
            if not client.is_full and self._send(client):
                continue
            self.note(client.answered())
            answers -= 1

    def note(self, done: Write | None) -> None:
        """A write has been done."""
        if done is not None:
            self.known[done.first : done.first + done.count] = done.number

    def _send(self, client: WritingClient) -> bool:
        """Send something; ``False`` if what was chosen has to wait."""
        if self._random.random() < 0.1:
            client.flush()
            return True
        count = self._random.choice([1, 8, 8, 8, 100, 300])
        first = self._random.randrange(self._first, len(self.known) - count)
        number = 0 if self._random.random() < 0.1 else (1 << 32) + len(self.sent)
        write = Write(first, count, number)
        if any(write.overlaps(other) for other in client.in_flight):
            return False
        self.sent.append(write)
        client.send(write)
        return True
