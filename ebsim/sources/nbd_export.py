"""A disk image served by ``qemu-nbd``, our child, over connections that only we have.

The listening socket is made here, in a folder only we may enter.  All connections are
made to it, and its name is removed, before the child starts and takes it over (as from
systemd).  So nothing has to be waited or polled for: a child that serves answers the
negotiation, and one that fails closes the connections.  Nobody else can connect, and
nothing is left behind under any name.  The child ends by itself when its last connection
closes, so also when this process is killed.
"""

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from ebsim.errors import MissingTool, SourceUnusable
from ebsim.sources.nbd_client import NbdClient
from ebsim.sources.nbd_protocol import NbdRefusal, NbdViolation

_PROGRAM = "qemu-nbd"
# systemd's protocol: the socket is descriptor 3, and LISTEN_PID names who may take it.
_TAKE_SOCKET = 'export LISTEN_PID=$$; exec "$@" 3<&0 </dev/null'
_SOCKET_FD = 3
_END_SECONDS = 10

# How qemu begins a message: with the options, which say nothing to the user.
_PREAMBLE = re.compile(r"^qemu-nbd: |Failed to blk_new_open '.*?[^,]': |Could not open '[^']*': ")


class NbdExport:
    """The disk in an image, read by any number of threads over a few connections.

    Args:
        options: qemu's ``--image-opts`` for the image.
        location: What messages call it.
        pass_fd: A descriptor that *options* name as ``/dev/fd/N``.
        connection_count: How many reads can be under way at once.
        timeout_seconds: How long the child may stay silent.

    Raises:
        MissingTool: there is no ``qemu-nbd``.
        SourceUnusable: it cannot open the image.
    """

    def __init__(
        self,
        options: bytes,
        *,
        location: str,
        pass_fd: int | None = None,
        connection_count: int = 4,
        timeout_seconds: float = 60,
    ) -> None:
        assert pass_fd is None or pass_fd > _SOCKET_FD, "the child's socket takes its place"
        program = shutil.which(_PROGRAM)
        if program is None:
            raise MissingTool(
                tool=_PROGRAM, package="qemu-utils", purpose=f"Reading the image {location}"
            )
        self._location = location
        self._messages: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
        self._clients: list[NbdClient] = []
        self._idle: SimpleQueue[NbdClient] = SimpleQueue()
        listener, connections = _connected_sockets(connection_count)
        with listener:
            self._child = self._start(program, options, listener, pass_fd)
        for index, connection in enumerate(connections):
            try:
                client = NbdClient(connection, timeout_seconds=timeout_seconds)
            except (NbdViolation, NbdRefusal) as error:
                for left in connections[index:]:
                    left.close()
                raise self._failed_to_open(error) from error
            self._clients.append(client)
            self._idle.put(client)

    @property
    def size_bytes(self) -> int:
        return self._clients[0].size_bytes

    @property
    def child_pid(self) -> int:
        return self._child.pid

    @contextmanager
    def client(self, offset_bytes: int) -> Iterator[NbdClient]:
        """A connection that no other thread uses meanwhile, to work at *offset_bytes*.

        Raises:
            SourceUnusable: for what the server refuses or does wrong inside the context.
        """
        client = self._idle.get()
        try:
            yield client
        except (NbdViolation, NbdRefusal) as error:
            raise SourceUnusable(
                f"{self._location} cannot be read at byte {offset_bytes}: {_PROGRAM}: {error}. "
                "No snapshot was made."
            ) from error
        finally:
            self._idle.put(client)

    def close(self) -> None:
        """Close the connections and see the child end.  Harmless when called twice."""
        while self._clients:
            self._clients.pop().close()
        if self._child.poll() is None:
            try:
                self._child.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._messages.close()

    def _start(
        self, program: str, options: bytes, listener: socket.socket, pass_fd: int | None
    ) -> subprocess.Popen[bytes]:
        command: list[str | bytes] = ["/bin/sh", "-c", _TAKE_SOCKET, "sh", program]
        command += ["--read-only", "--shared=0", "--image-opts", options]
        return subprocess.Popen(
            command,
            stdin=listener.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=self._messages,
            pass_fds=() if pass_fd is None else (pass_fd,),
            env=os.environ | {"LISTEN_FDS": "1", "LC_ALL": "C"},
            # A Ctrl-C at the terminal is ours to handle: it must not cut the reads short.
            start_new_session=True,
        )

    def _failed_to_open(self, error: Exception) -> SourceUnusable:
        self._child.kill()
        self._child.wait()
        self._messages.seek(0)
        said = self._messages.read().decode(errors="replace").strip().splitlines()
        self.close()
        reason = "; ".join(_PREAMBLE.sub("", line) for line in said) or str(error)
        return SourceUnusable(
            f"{self._location} cannot be opened by {_PROGRAM}: {reason}. No snapshot was made."
        )


def _connected_sockets(count: int) -> tuple[socket.socket, list[socket.socket]]:
    """A listening socket without a name, and *count* connections that wait in its queue."""
    folder = tempfile.mkdtemp(prefix="ebsim-")
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # A socket's path has room for 107 bytes, which a long TMPDIR would exceed.
        address = f"/proc/self/fd/{folder_fd}/nbd"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(address)
        listener.listen(count)
        connections = []
        for _ in range(count):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(address)
            connections.append(connection)
        return listener, connections
    finally:
        os.close(folder_fd)
        shutil.rmtree(Path(folder))
