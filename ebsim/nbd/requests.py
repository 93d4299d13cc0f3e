"""What a client asks in the transmission phase, without I/O: bytes in, requests out.

Every request that leaves here is safe to carry out, or carries the error to answer it
with: nothing past the export's end, no write to what is read-only, no flag that the
command does not have.

A client may be wrong or hostile.  What breaks the framing itself (a wrong magic, a payload
over the maximum, which would have to be read to find the next request) raises
:class:`ProtocolViolation`, after which the connection is of no more use.

Source:
    https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, whose section is
    named beside each check.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ebsim.errors import InvalidRequest
from ebsim.nbd import wire
from ebsim.nbd.export_offer import PAYLOAD_BYTES_MAX, Agreement

_REQUEST_SIZE = wire.REQUEST.size
_MAGIC = wire.REQUEST_MAGIC
_READ = wire.COMMAND_READ
_WRITE = wire.COMMAND_WRITE

_WRITING = frozenset({wire.COMMAND_WRITE, wire.COMMAND_TRIM, wire.COMMAND_WRITE_ZEROES})
# Section "Command flags": FUA goes with every command, the others with one each.
_FLAGS = {
    wire.COMMAND_READ: wire.FLAG_FUA | wire.FLAG_DO_NOT_FRAGMENT,
    wire.COMMAND_WRITE: wire.FLAG_FUA,
    wire.COMMAND_FLUSH: wire.FLAG_FUA,
    wire.COMMAND_TRIM: wire.FLAG_FUA,
    wire.COMMAND_CACHE: wire.FLAG_FUA,
    wire.COMMAND_WRITE_ZEROES: wire.FLAG_FUA | wire.FLAG_NO_HOLE | wire.FLAG_FAST_ZERO,
    wire.COMMAND_BLOCK_STATUS: wire.FLAG_FUA | wire.FLAG_REQUEST_ONE,
}


class ProtocolViolation(InvalidRequest):
    """The client broke the protocol; where its next request begins is not known."""


class Fault(NamedTuple):
    """Why a request is not carried out: an error of section "Error values", and a sentence."""

    error: int
    message: str


class Request(NamedTuple):
    """One request.

    *data* is the payload of a write, in the caller's buffer: it is shorter than *length* if
    the payload is too long for that, and then the rest of it is what comes next.
    """

    command: int
    flags: int
    cookie: int
    offset_bytes: int
    length: int
    data: memoryview
    fault: Fault | None


_NO_DATA = memoryview(b"")


class RequestParser:
    """Takes requests out of a buffer that its owner fills from the connection.

    Args:
        agreement: What the connection may ask.
        window_bytes: The size of the owner's buffer.  A write that fits it is reported only
            when it is complete.
    """

    def __init__(self, agreement: Agreement, window_bytes: int) -> None:
        assert window_bytes > _REQUEST_SIZE, "the buffer must hold a request"
        self._agreement = agreement
        self._size_bytes = agreement.offer.size_bytes
        self._payload_in_window_max = window_bytes - _REQUEST_SIZE
        self._skip_bytes = 0
        self.consumed = 0
        """How many of the bytes given are done with; the others have to be given again."""

    def requests(self, received: memoryview) -> Iterator[Request]:
        """The complete requests at the start of *received*, then :attr:`consumed` is right.

        A disconnect is the last one: what follows it is nobody's.

        Raises:
            ProtocolViolation: after what came before it was yielded.
        """
        end = len(received)
        position = self._skip(0, end)
        unpack = wire.REQUEST.unpack_from
        while end - position >= _REQUEST_SIZE:
            self.consumed = position
            magic, flags, command, cookie, offset, length = unpack(received, position)
            if magic != _MAGIC:
                raise ProtocolViolation(f"a request begins with {magic:08x}")
            position += _REQUEST_SIZE
            fault = None
            if flags or command > _WRITE or length > PAYLOAD_BYTES_MAX:
                fault = self._fault(command, flags, offset, length)
            elif offset + length > self._size_bytes or command == _WRITE:
                fault = self._bounds_fault(command, offset, length)
            data = _NO_DATA
            if command == _WRITE:
                if length > end - position and length <= self._payload_in_window_max:
                    return  # the rest of it is still to come
                data = received[position : min(position + length, end)]
                position += len(data)
                if fault is not None:
                    self._skip_bytes = length - len(data)
            yield Request(command, flags, cookie, offset, length, data, fault)
            if command == wire.COMMAND_DISCONNECT:
                position = end
        self.consumed = position

    def _skip(self, position: int, end: int) -> int:
        """Pass over what is left of the payload of a write that was refused."""
        skipped = min(self._skip_bytes, end - position)
        self._skip_bytes -= skipped
        return position + skipped

    def _fault(self, command: int, flags: int, offset: int, length: int) -> Fault | None:
        if command == wire.COMMAND_DISCONNECT:
            return None
        if command == _WRITE and length > PAYLOAD_BYTES_MAX:
            # Section "Block size constraints" allows a hard disconnect here.
            raise ProtocolViolation(f"a write announces {length} bytes")
        if command not in _FLAGS:
            return Fault(wire.EINVAL, f"command {command} is not supported")
        allowed = _FLAGS[command]
        if not self._agreement.has_structured_replies:
            # Section "Transmission flags": SEND_DF was not among them.
            allowed &= ~wire.FLAG_DO_NOT_FRAGMENT
        if flags & ~allowed:
            return Fault(wire.EINVAL, f"command {command} does not take the flags {flags:#x}")
        if command == _READ and length > PAYLOAD_BYTES_MAX:
            is_whole = flags & wire.FLAG_DO_NOT_FRAGMENT
            error = wire.EOVERFLOW if is_whole else wire.EINVAL
            return Fault(error, f"{length} bytes are more than {PAYLOAD_BYTES_MAX} at once")
        if command == wire.COMMAND_FLUSH:
            if offset or length:
                return Fault(wire.EINVAL, "a flush has neither an offset nor a length")
            return None
        if command == wire.COMMAND_BLOCK_STATUS and (not self._agreement.contexts or not length):
            return Fault(wire.EINVAL, "no metadata context was selected, or no byte asked about")
        return self._bounds_fault(command, offset, length)

    def _bounds_fault(self, command: int, offset: int, length: int) -> Fault | None:
        # Section "Error values": ENOSPC and EPERM are for what would write.
        is_writing = command in _WRITING
        if is_writing and self._agreement.offer.is_read_only:
            return Fault(wire.EPERM, "the export is read-only")
        if offset + length > self._size_bytes:
            error = wire.ENOSPC if is_writing else wire.EINVAL
            return Fault(
                error, f"bytes {offset} to {offset + length} lie past the end {self._size_bytes}"
            )
        return None
