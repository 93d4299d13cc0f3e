"""A connection to an NBD server, to read from it: one request in flight at a time.

Reads ask for one unfragmented answer, so that the bytes go from the socket straight into
the caller's buffer.  A server that answers nothing is given up after a time-out; one
that breaks the protocol, at once.  After either the connection is of no more use.
"""

import socket
import struct
from collections.abc import Iterator

from ebsim.nbd import wire
from ebsim.sources import nbd_protocol as nbd
from ebsim.sources.nbd_protocol import NbdRefusal, NbdViolation, StatusRange
from ebsim.sources.source import Extent

# A reply is its answer, errors and an end; whoever sends more never ends.
_CHUNKS_MAX = 16


class NbdClient:
    """A negotiated connection over *sock*, which it owns.  For one thread at a time.

    Args:
        sock: A connected stream socket, in blocking mode.
        timeout_seconds: How long the server may stay silent.
        export_name: What to read; empty is the server's default export.

    Raises:
        NbdViolation: the server breaks the protocol, closes, or stays silent.
        NbdRefusal: the server lacks the export, structured replies or block status.
    """

    def __init__(
        self, sock: socket.socket, *, timeout_seconds: float = 60, export_name: bytes = b""
    ) -> None:
        # The kernel's own time-out costs nothing; Python's adds a poll to every call.
        timeout = struct.pack("@ll", int(timeout_seconds), int(timeout_seconds % 1 * 1_000_000))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        self._sock = sock
        self._cookie = 0
        self._size_bytes, self._context_id = self._negotiate(export_name)

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read_into(self, buffer: memoryview, offset_bytes: int) -> None:
        """Fill *buffer* from *offset_bytes* on; all of it must lie inside the export."""
        for start in range(0, len(buffer), nbd.READ_BYTES_MAX):
            self._read_once(buffer[start : start + nbd.READ_BYTES_MAX], offset_bytes + start)

    def block_status(self, start: int) -> Iterator[StatusRange]:
        """What the ranges from *start* on are, up to where the server's one answer ends."""
        assert start < self._size_bytes, "nothing lies past the export's end"
        asked = Extent(start, min(self._size_bytes, start + nbd.STATUS_BYTES_MAX))
        cookie = self._request(wire.COMMAND_BLOCK_STATUS, asked.start, asked.stop - asked.start)
        payload: bytes | None = None
        for header in self._chunks(cookie):
            if header.kind != wire.CHUNK_BLOCK_STATUS or payload is not None:
                raise NbdViolation(f"a chunk of kind {header.kind} answers a block status")
            if header.payload_bytes > nbd.STATUS_PAYLOAD_BYTES_MAX:
                raise NbdViolation(f"a block status announces {header.payload_bytes} bytes")
            payload = self._receive(header.payload_bytes)
        if payload is None:
            raise NbdViolation("a block status ends without an answer")
        return nbd.decode_block_status(payload, self._context_id, asked)

    def close(self) -> None:
        """Take leave of the server, if it still listens, and close the socket."""
        try:
            self._request(wire.COMMAND_DISCONNECT, 0, 0)
        except NbdViolation:
            pass  # it is gone already, which is what was wanted
        finally:
            self._sock.close()

    def _negotiate(self, export_name: bytes) -> tuple[int, int]:
        greeting = self._receive(wire.GREETING.size)
        self._send(nbd.answer_greeting(greeting))
        self._ask(wire.OPTION_STRUCTURED_REPLY, nbd.encode_option(wire.OPTION_STRUCTURED_REPLY))
        contexts = self._ask(
            wire.OPTION_SET_META_CONTEXT, nbd.encode_set_base_allocation(export_name)
        ).get(wire.REPLY_META_CONTEXT, [])
        if len(contexts) != 1:
            raise NbdRefusal("the server does not tell where data is (base:allocation)")
        context_id = nbd.decode_meta_context(contexts[0])
        infos = self._ask(wire.OPTION_GO, nbd.encode_go(export_name)).get(wire.REPLY_INFO, [])
        exports = [export for info in infos if (export := nbd.decode_export_info(info))]
        if len(exports) != 1:
            raise NbdViolation(f"the server describes its export {len(exports)} times")
        return exports[0].size_bytes, context_id

    def _ask(self, option: int, message: bytes) -> dict[int, list[bytes]]:
        """Send an option; the payloads of the replies before its acknowledgement, by kind."""
        self._send(message)
        replies: dict[int, list[bytes]] = {}
        for _ in range(_CHUNKS_MAX):
            header = self._receive(wire.OPTION_REPLY.size)
            reply = nbd.decode_option_reply(header, option)
            payload = self._receive(reply.payload_bytes)
            nbd.check_option_reply(reply, payload)
            if reply.kind == wire.REPLY_ACK:
                return replies
            replies.setdefault(reply.kind, []).append(payload)
        raise NbdViolation(f"the answer to option {option} never ends")

    def _read_once(self, buffer: memoryview, offset_bytes: int) -> None:
        cookie = self._request(
            wire.COMMAND_READ, offset_bytes, len(buffer), flags=wire.FLAG_DO_NOT_FRAGMENT
        )
        is_filled = False
        for header in self._chunks(cookie):
            if is_filled:
                raise NbdViolation("an unfragmented read is answered in pieces")
            if header.kind == wire.CHUNK_OFFSET_DATA:
                expected = wire.OFFSET.size + len(buffer)
            elif header.kind == wire.CHUNK_OFFSET_HOLE:
                expected = wire.HOLE.size
            else:
                raise NbdViolation(f"a chunk of kind {header.kind} answers a read")
            if header.payload_bytes != expected:
                raise NbdViolation(
                    f"{len(buffer)} bytes were asked for and an answer of "
                    f"{header.payload_bytes} announced, not of {expected}"
                )
            self._receive_content(header, buffer, offset_bytes)
            is_filled = True
        if not is_filled:
            raise NbdViolation("a read ends without its bytes")

    def _receive_content(
        self, header: nbd.ChunkHeader, buffer: memoryview, offset_bytes: int
    ) -> None:
        if header.kind == wire.CHUNK_OFFSET_DATA:
            (start,) = wire.OFFSET.unpack(self._receive(wire.OFFSET.size))
            self._receive_into(buffer)
            size_bytes = len(buffer)
        else:
            start, size_bytes = wire.HOLE.unpack(self._receive(wire.HOLE.size))
            buffer[:] = bytes(len(buffer))
        if start != offset_bytes or size_bytes != len(buffer):
            raise NbdViolation(
                f"{len(buffer)} bytes at {offset_bytes} were asked for and {size_bytes} at "
                f"{start} sent"
            )

    def _chunks(self, cookie: int) -> Iterator[nbd.ChunkHeader]:
        """The heads of a reply's content chunks, whose payloads the caller receives.

        An error among them is raised after the reply's end, so that the connection can
        be used again.
        """
        error: NbdRefusal | None = None
        for _ in range(_CHUNKS_MAX):
            start = self._receive(16)
            if nbd.is_simple_reply(start):
                raise nbd.decode_simple_error(start, cookie)
            header = nbd.decode_chunk(start + self._receive(wire.CHUNK.size - 16), cookie)
            if header.kind & wire.CHUNK_ERROR_BIT:
                if header.payload_bytes > wire.ERROR_BYTES_MAX:
                    raise NbdViolation(f"an error announces {header.payload_bytes} bytes")
                error = error or nbd.decode_error(self._receive(header.payload_bytes))
            elif header.kind != wire.CHUNK_NONE:
                yield header
            if header.is_last:
                if error is not None:
                    raise error
                return
        raise NbdViolation("a reply never ends")

    def _request(self, command: int, offset_bytes: int, size_bytes: int, *, flags: int = 0) -> int:
        self._cookie = (self._cookie + 1) & 0xFFFF_FFFF
        self._send(
            nbd.encode_request(command, self._cookie, offset_bytes, size_bytes, flags=flags)
        )
        return self._cookie

    def _send(self, message: bytes) -> None:
        try:
            self._sock.sendall(message)
        except OSError as error:
            raise NbdViolation(f"the connection failed: {_reason(error)}") from error

    def _receive(self, size_bytes: int) -> bytes:
        buffer = bytearray(size_bytes)
        self._receive_into(memoryview(buffer))
        return bytes(buffer)

    def _receive_into(self, buffer: memoryview) -> None:
        filled = 0
        while filled < len(buffer):
            try:
                count = self._sock.recv_into(buffer[filled:], 0, socket.MSG_WAITALL)
            except OSError as error:
                raise NbdViolation(f"the connection failed: {_reason(error)}") from error
            if count == 0:
                raise NbdViolation("the server closed the connection")
            filled += count


def _reason(error: OSError) -> str:
    # SO_RCVTIMEO makes a silent server look like a non-blocking socket.
    return "the server is silent" if isinstance(error, BlockingIOError) else str(error.strerror)
