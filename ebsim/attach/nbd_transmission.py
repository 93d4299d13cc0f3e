"""The requests of one NBD client, answered.

The life of a request: everything the client has sent so far is received into one buffer,
and the requests in it are taken one after the other.  What the device can do promptly is
done on the spot and the reply gathered; what would wait goes to a worker.  At the end of
the buffer the gathered replies leave in one call.  Several requests for one system call,
and no other thread woken: that is most of the speed.

Invariants:

1. A write reaches the device when all of its payload is here, and not before.
2. What is under way (requests at workers, replies not yet sent) stays within the limits:
   beyond them nothing more is received.
3. ``serve`` returns only when everything under way was answered, or the client is gone.
"""

import threading
from functools import partial

from ebsim.attach.nbd_buffers import PayloadBuffers
from ebsim.attach.nbd_export import DeviceRequests
from ebsim.attach.nbd_replies import Load, Reply, ReplySender
from ebsim.attach.nbd_stream import Buffer, Stream
from ebsim.attach.nbd_workers import Workers
from ebsim.nbd import wire
from ebsim.nbd.export_offer import Agreement
from ebsim.nbd.replies import ReplyEncoder
from ebsim.nbd.requests import Fault, Request, RequestParser

REQUESTS_MAX = 128
"""How many requests of a connection may be at workers or answered and not yet sent."""
LOAD_BYTES_MAX = 32 << 20
"""How many bytes of payload these may have; one request always may be there."""

_WINDOW_BYTES = 256 << 10
_ARENA_BYTES = 1 << 20
_ARENAS_MAX = 4
_KEPT_BYTES = 8 << 20
_PAGE_MASK = 4095


class Transmission:
    """The requests that come over *stream*.  One thread calls ``serve``, once.

    Args:
        agreement: What the connection may ask.
        work: The export's device.
        workers: Who does what has to wait; shared with other connections.
        is_stopping: Set when no more requests are to be taken.
    """

    def __init__(
        self,
        stream: Stream,
        agreement: Agreement,
        work: DeviceRequests,
        workers: Workers,
        is_stopping: threading.Event,
    ) -> None:
        self._stream = stream
        self._work = work
        self._workers = workers
        self._is_stopping = is_stopping
        self._parser = RequestParser(agreement, _WINDOW_BYTES)
        self._encode = ReplyEncoder(has_structured_replies=agreement.has_structured_replies)
        self._buffers = PayloadBuffers(_KEPT_BYTES)
        self._sender = ReplySender(stream, self._buffers)
        self._load = Load(count_max=REQUESTS_MAX, bytes_max=LOAD_BYTES_MAX)
        # Counted apart, so that prompt replies need not wait for slow requests.
        self._gathered_load = Load(count_max=_ARENAS_MAX, bytes_max=_ARENAS_MAX * _ARENA_BYTES)
        self._flush_lock = threading.Lock()
        self._flushes: list[Request] = []
        self._is_flushing = False
        self._gathered: list[Buffer] = []
        self._arena: memoryview | None = None
        self._arena_used = 0
        self._has_left = False

    def serve(self, first: bytes) -> None:
        """Answer requests until the client leaves; *first* are bytes received already.

        Raises:
            OSError: the connection failed.
            ProtocolViolation: the client broke the protocol.
        """
        try:
            self._receive_and_answer(first)
        finally:
            self._send_gathered()
            self._load.wait_until_idle()
            self._gathered_load.wait_until_idle()
            self._sender.join()

    def _receive_and_answer(self, first: bytes) -> None:
        window = self._buffers.take(_WINDOW_BYTES)[:_WINDOW_BYTES]
        filled = len(first)
        window[:filled] = first
        while True:
            for request in self._parser.requests(window[:filled]):
                self._answer(request)
                if self._sender.is_broken:
                    return  # nobody would see the answers to the others
            if self._gathered:
                self._send_gathered()
            if self._has_left or self._is_stopping.is_set():
                return
            rest = filled - self._parser.consumed
            if rest:
                window[:rest] = window[self._parser.consumed : filled]
            count = self._stream.receive_into(window[rest:])
            if count == 0:
                return
            filled = rest + count

    def _answer(self, request: Request) -> None:
        """Carry the request out, or see to it that somebody does."""
        command = request.command
        if request.fault is not None:
            self._gather_error(request, request.fault)
        elif command == wire.COMMAND_READ:
            if not self._read_at_once(request):
                self._read_later(request)
        elif command == wire.COMMAND_WRITE:
            if len(request.data) < request.length:
                self._write_long(request)
            elif not self._write_at_once(request, request.data):
                self._admit(request.length)
                data = bytes(request.data)  # the window is about to be filled again
                self._workers.give(partial(self._change, request, data, None))
        elif command == wire.COMMAND_DISCONNECT:
            self._has_left = True
        else:
            self._admit(0)
            if command == wire.COMMAND_FLUSH:
                self._flush_later(request)
            elif command == wire.COMMAND_BLOCK_STATUS:
                self._workers.give(partial(self._block_status, request))
            else:
                self._workers.give(partial(self._change, request, b"", None))

    # -- on the spot

    def _read_at_once(self, request: Request) -> bool:
        length = request.length
        start = self._arena_used
        if start + length > _ARENA_BYTES:
            if length > _ARENA_BYTES:
                return False
            self._send_gathered()
            start = 0
        if self._arena is None:
            self._arena = self._buffers.take(_ARENA_BYTES)
        target = self._arena[start : start + length]
        try:
            if not self._work.try_read(request.offset_bytes, target):
                return False
        except Exception as error:  # noqa: BLE001 - a device's bug must not end the server
            self._gather_error(request, self._work.fault_of(request, error))
            return True
        head = self._encode.data_head(request.cookie, request.offset_bytes, length)
        self._gathered += (head, target)
        self._arena_used = (start + length + _PAGE_MASK) & ~_PAGE_MASK
        return True

    def _write_at_once(self, request: Request, data: memoryview) -> bool:
        # A flag means FUA, and a flush has to be waited for.
        if request.flags:
            return False
        try:
            if not self._work.try_write(request.offset_bytes, data):
                return False
        except Exception as error:  # noqa: BLE001 - a device's bug must not end the server
            self._gather_error(request, self._work.fault_of(request, error))
            return True
        self._gathered.append(self._encode.done(request.cookie))
        return True

    def _gather_error(self, request: Request, fault: Fault) -> None:
        self._gathered.append(self._encode.error(request.cookie, fault.error, fault.message))

    def _send_gathered(self) -> None:
        if not self._gathered:
            return
        self._gathered_load.enter(_ARENA_BYTES)
        reply = Reply(self._gathered, _ARENA_BYTES, self._arena, self._gathered_load)
        self._gathered, self._arena, self._arena_used = [], None, 0
        self._sender.send(reply)

    # -- by workers

    def _admit(self, size_bytes: int) -> None:
        """Wait until a request of *size_bytes* may be under way; it is from now on."""
        if not self._load.try_enter(size_bytes):
            # The client may be waiting for these before it makes room.
            self._send_gathered()
            self._load.enter(size_bytes)

    def _read_later(self, request: Request) -> None:
        self._admit(request.length)
        self._workers.give(partial(self._read, request))

    def _flush_later(self, request: Request) -> None:
        with self._flush_lock:
            self._flushes.append(request)
            if self._is_flushing:
                return  # whoever flushes now takes it next
            self._is_flushing = True
        self._workers.give(self._flush)

    def _write_long(self, request: Request) -> None:
        """Receive a payload that does not fit the window into memory of its own."""
        self._send_gathered()
        self._admit(request.length)
        try:
            buffer = self._buffers.take(request.length)
            self._receive_payload(request, buffer[: request.length])
        except BaseException:
            self._load.leave(request.length)
            raise
        data = buffer[: request.length]
        if self._write_at_once(request, data):
            self._buffers.give_back(buffer)
            self._load.leave(request.length)
        else:
            self._workers.give(partial(self._change, request, data, buffer))

    def _receive_payload(self, request: Request, payload: memoryview) -> None:
        filled = len(request.data)
        payload[:filled] = request.data
        while filled < len(payload):
            count = self._stream.receive_into(payload[filled:])
            if count == 0:
                raise ConnectionResetError("the client left in the middle of a write")
            filled += count

    def _read(self, request: Request) -> None:
        length = request.length
        try:
            buffer = self._buffers.take(length)
        except OSError as error:
            return self._post_fault(request, Fault(wire.ENOMEM, str(error)))
        fault = self._work.read(request, buffer[:length])
        if fault is not None:
            self._buffers.give_back(buffer)
            return self._post_fault(request, fault)
        head = self._encode.data_head(request.cookie, request.offset_bytes, length)
        return self._sender.post(Reply([head, buffer[:length]], length, buffer, self._load))

    def _change(
        self, request: Request, data: bytes | memoryview, buffer: memoryview | None
    ) -> None:
        """Do a request that is answered with success or an error; *buffer* held its payload."""
        fault = self._work.change(request, data)
        if buffer is not None:
            self._buffers.give_back(buffer)
        self._post(request, self._ended(request, fault))

    def _flush(self) -> None:
        """Answer the flushes that wait, all with one: it begins after each of them came."""
        while True:
            with self._flush_lock:
                requests, self._flushes = self._flushes, []
                if not requests:
                    self._is_flushing = False
                    return
            fault = self._work.change(requests[0], b"")
            self._sender.post(
                *(
                    Reply([self._ended(request, fault)], 0, None, self._load)
                    for request in requests
                )
            )

    def _block_status(self, request: Request) -> None:
        ranges = self._work.block_status(request)
        if isinstance(ranges, Fault):
            return self._post_fault(request, ranges)
        return self._post(request, self._encode.block_status(request.cookie, ranges))

    def _post_fault(self, request: Request, fault: Fault) -> None:
        self._post(request, self._ended(request, fault))

    def _ended(self, request: Request, fault: Fault | None) -> bytes:
        """The answer of a request that has none but success or an error."""
        if fault is None:
            return self._encode.done(request.cookie)
        return self._encode.error(request.cookie, fault.error, fault.message)

    def _post(self, request: Request, reply: bytes) -> None:
        self._sender.post(Reply([reply], _load_bytes(request), None, self._load))


def _load_bytes(request: Request) -> int:
    """What *request* counts for while it is under way: its payload, in either direction."""
    has_payload = request.command in (wire.COMMAND_READ, wire.COMMAND_WRITE)
    return request.length if has_payload else 0
