"""One NBD client, from its first byte to its last: the negotiation, then its requests."""

import ssl
import threading
from collections.abc import Callable, Sequence

from ebsim.attach.nbd_export import DeviceRequests, Export, Log
from ebsim.attach.nbd_stream import Stream, TlsStream
from ebsim.attach.nbd_transmission import Transmission
from ebsim.attach.nbd_workers import Workers
from ebsim.nbd.export_offer import Agreement, ExportOffer
from ebsim.nbd.handshake import Ended, Handshake, SendBytes, StartTls, TlsMode
from ebsim.nbd.requests import ProtocolViolation

HANDSHAKE_SECONDS = 30.0


class Connection:
    """A client on *stream*, which it owns.

    Args:
        exports: What there is to be had now.
        workers: Who does what has to wait; shared with other connections.
        tls_context: The server's certificates, if it has any.
        must_use_tls: Whether clients that do not use them are refused.
        log: Takes a line about what an operator should see.
    """

    def __init__(
        self,
        stream: Stream,
        exports: Callable[[], Sequence[Export]],
        workers: Workers,
        *,
        tls_context: ssl.SSLContext | None,
        must_use_tls: bool,
        handshake_seconds: float,
        log: Log,
    ) -> None:
        self._stream = stream
        self._exports = exports
        self._workers = workers
        self._tls_context = tls_context
        self._must_use_tls = must_use_tls
        self._handshake_seconds = handshake_seconds
        self._log = log
        self._offered: dict[str, Export] = {}
        self._is_stopping = threading.Event()
        self.export_name: str | None = None
        """The export in use; ``None`` before it was agreed."""

    def serve(self) -> None:
        """Serve the client until it leaves, breaks the protocol, or ``stop`` is called."""
        try:
            self._stream.set_deadline(self._handshake_seconds)
            agreed = self._negotiate()
            self._stream.set_deadline(None)
            if agreed is not None:
                agreement, first = agreed
                export = self._offered[agreement.offer.name]
                work = DeviceRequests(export, agreement.contexts, self._log)
                transmission = Transmission(
                    self._stream, agreement, work, self._workers, self._is_stopping
                )
                transmission.serve(first)
        except (OSError, ProtocolViolation):
            pass  # the client left, or is not one: it loses its connection and that is all
        finally:
            self._stream.close()

    def stop(self) -> None:
        """Take no more requests; those under way are finished.  From any thread."""
        self._is_stopping.set()
        self._stream.stop_receiving()

    def break_off(self) -> None:
        """Let the connection end at once, whether or not the client has its answers."""
        self._stream.break_off()

    def _negotiate(self) -> tuple[Agreement, bytes] | None:
        """The agreement and what was received behind it; ``None`` if there is none."""
        handshake = Handshake(self._offers, tls=self._tls_mode())
        self._stream.send([handshake.greeting])
        buffer = memoryview(bytearray(4096))
        while count := self._stream.receive_into(buffer):
            events = handshake.receive(bytes(buffer[:count]))
            if events and isinstance(events[-1], Agreement):
                # Before the client is told: from then on it counts among the export's users.
                self.export_name = events[-1].offer.name
            for event in events:
                if isinstance(event, SendBytes):
                    self._stream.send([event.data])
                elif isinstance(event, StartTls):
                    assert self._tls_context is not None, "TLS was not offered"
                    self._stream = TlsStream(self._stream, self._tls_context)
                elif isinstance(event, Ended):
                    return None
                else:
                    return event, handshake.trailing
        return None

    def _offers(self) -> list[ExportOffer]:
        self._offered = {export.name: export for export in self._exports()}
        return [export.offer for export in self._offered.values()]

    def _tls_mode(self) -> TlsMode:
        if self._tls_context is None:
            return TlsMode.NONE
        return TlsMode.REQUIRED if self._must_use_tls else TlsMode.OFFERED
