"""The server's side of an NBD negotiation, without I/O: bytes in, events and bytes out.

    greeting -> client flags -> options, each answered -> transmission, or the end
                                  |                 ^
                                  +--- STARTTLS ----+   what was agreed before is forgotten

Whoever drives it feeds what the client sent to :meth:`Handshake.receive` and does what the
events say, in order.  How the bytes were cut into pieces makes no difference.

A client may be wrong or hostile: what the specification has an answer for gets it, and
anything else ends the negotiation with :class:`Ended`.  Memory is bounded by one option
(:data:`OPTION_BYTES_MAX`), time by :data:`OPTIONS_MAX`.

Source:
    https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, whose section is
    named beside each check.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from ebsim.nbd import wire
from ebsim.nbd.export_offer import PAYLOAD_BYTES_MAX, Agreement, ExportOffer
from ebsim.nbd.option_data import InvalidOption, decode_info_request, decode_meta_request

OPTION_BYTES_MAX = 64 << 10
"""The longest option data looked at: room for a name and over a dozen longest queries."""
OPTIONS_MAX = 1000
"""How many options a client may send: a client that lists and describes everything needs two
or three for each export."""


class TlsMode(Enum):
    """Whether STARTTLS is answered (section "TLS support")."""

    NONE = "no TLS"
    OFFERED = "SELECTIVETLS"
    REQUIRED = "FORCEDTLS"


@dataclass(frozen=True, slots=True)
class SendBytes:
    """Send *data* to the client."""

    data: bytes


class StartTls:
    """Put TLS on the connection, then go on with what comes through it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Close the connection; *reason* is ``None`` where the client took its leave."""

    reason: str | None


Event = SendBytes | StartTls | Ended | Agreement


class _Stop(Exception):
    """The negotiation cannot go on."""


class Handshake:
    """One client's negotiation.

    Args:
        offers: What there is to be had now; asked anew for each option.
        tls: Whether the connection can, or must, be encrypted.

    The first bytes to send are :attr:`greeting`.
    """

    def __init__(
        self, offers: Callable[[], Sequence[ExportOffer]], *, tls: TlsMode = TlsMode.NONE
    ) -> None:
        self._offers = offers
        self._tls = tls
        self._is_encrypted = False
        self._received = bytearray()
        self._events: list[Event] = []
        self._client_flags: int | None = None
        self._option_count = 0
        self._is_over = False
        self._has_structured_replies = False
        self._contexts: dict[int, bytes] = {}
        self._contexts_of: str | None = None
        self._answers: dict[int, Callable[[bytes], None]] = {
            wire.OPTION_EXPORT_NAME: self._enter_by_name,
            wire.OPTION_ABORT: self._abort,
            wire.OPTION_LIST: self._list,
            wire.OPTION_STARTTLS: self._start_tls,
            wire.OPTION_INFO: self._info,
            wire.OPTION_GO: self._go,
            wire.OPTION_STRUCTURED_REPLY: self._agree_structured_replies,
            wire.OPTION_LIST_META_CONTEXT: self._list_contexts,
            wire.OPTION_SET_META_CONTEXT: self._set_contexts,
        }

    @property
    def greeting(self) -> bytes:
        """What the server says first (section "Newstyle negotiation")."""
        flags = wire.HANDSHAKE_FIXED_NEWSTYLE | wire.HANDSHAKE_NO_ZEROES
        return wire.GREETING.pack(wire.GREETING_MAGIC, wire.OPTION_MAGIC, flags)

    @property
    def trailing(self) -> bytes:
        """What was received behind the negotiation's end: the first requests."""
        return bytes(self._received)

    def receive(self, data: bytes) -> list[Event]:
        """Take what the client sent; return what to do about it.

        After an :class:`Agreement` or :class:`Ended` nothing more may be given.
        """
        assert not self._is_over, "the negotiation is over"
        self._received += data
        try:
            while not self._is_over and self._take_one_message():
                pass
        except _Stop as stop:
            self._end(str(stop))
        events, self._events = self._events, []
        return events

    def _take_one_message(self) -> bool:
        """Answer the message at the front, if all of it is here."""
        if self._client_flags is None:
            if len(self._received) < 4:
                return False
            self._take_client_flags(int.from_bytes(self._take(4), "big"))
            return True
        if len(self._received) < wire.OPTION.size:
            return False
        magic, option, length = wire.OPTION.unpack_from(self._received)
        if magic != wire.OPTION_MAGIC:
            raise _Stop(f"an option begins with {magic!r}")
        # Section "Option types" lets a server hang up on what it will not even read through.
        if length > OPTION_BYTES_MAX:
            raise _Stop(f"option {option} announces {length} bytes of data")
        if len(self._received) < wire.OPTION.size + length:
            return False
        self._option_count += 1
        if self._option_count > OPTIONS_MAX:
            raise _Stop(f"more than {OPTIONS_MAX} options were sent")
        self._take(wire.OPTION.size)
        self._answer(option, self._take(length))
        return True

    def _take(self, size_bytes: int) -> bytes:
        taken = bytes(self._received[:size_bytes])
        del self._received[:size_bytes]
        return taken

    def _take_client_flags(self, flags: int) -> None:
        # Section "Client flags": drop whoever sets an unknown flag.
        if flags & ~(wire.HANDSHAKE_FIXED_NEWSTYLE | wire.HANDSHAKE_NO_ZEROES):
            raise _Stop(f"the client sets unknown handshake flags ({flags:#x})")
        self._client_flags = flags

    def _answer(self, option: int, data: bytes) -> None:
        self._option = option
        answer = self._answers.get(option)
        if self._tls is TlsMode.REQUIRED and not self._is_encrypted:
            # Section "FORCEDTLS mode": everything but these is refused, and EXPORT_NAME,
            # which has no reply for that, ends the session.
            if option == wire.OPTION_EXPORT_NAME:
                raise _Stop("an export was asked for without TLS")
            if option not in (wire.OPTION_STARTTLS, wire.OPTION_ABORT):
                return self._refuse(wire.REPLY_ERROR_TLS_REQUIRED, "TLS has to be started first")
        if answer is None:
            return self._refuse(wire.REPLY_ERROR_UNSUPPORTED, f"option {option} is not supported")
        try:
            return answer(data)
        except InvalidOption as error:
            return self._refuse(wire.REPLY_ERROR_INVALID, str(error))

    def _abort(self, data: bytes) -> None:
        self._expect_no_data(data)
        self._reply(wire.REPLY_ACK)
        self._end(None)

    def _list(self, data: bytes) -> None:
        self._expect_no_data(data)
        for offer in self._offers():
            name = wire.encode_string(offer.name.encode())
            self._reply(wire.REPLY_SERVER, name + offer.described)
        self._reply(wire.REPLY_ACK)

    def _start_tls(self, data: bytes) -> None:
        self._expect_no_data(data)
        if self._tls is TlsMode.NONE:
            # Section "NOTLS mode" names this error; the option itself is known.
            return self._refuse(wire.REPLY_ERROR_UNSUPPORTED, "TLS is not set up here")
        if self._is_encrypted:
            # Section "Option reply types", NBD_REP_ERR_INVALID.
            return self._refuse(wire.REPLY_ERROR_INVALID, "TLS was started already")
        if self._received:
            # Somebody between client and server may have added it: it must not pass for
            # something that came encrypted.
            raise _Stop("options follow STARTTLS before its answer")
        self._reply(wire.REPLY_ACK)
        self._is_encrypted = True
        self._forget_agreements()
        return self._events.append(StartTls())

    def _agree_structured_replies(self, data: bytes) -> None:
        self._expect_no_data(data)
        self._has_structured_replies = True
        self._reply(wire.REPLY_ACK)

    def _enter_by_name(self, name: bytes) -> None:
        offer = self._find(name)
        if offer is None:
            # Section "Option types", NBD_OPT_EXPORT_NAME: there is no error reply for it.
            raise _Stop(f"the export {name[:200]!r} does not exist")
        size_and_flags = struct.pack(">QH", offer.size_bytes, self._transmission_flags(offer))
        assert self._client_flags is not None, "flags come before options"
        padding = b"" if self._client_flags & wire.HANDSHAKE_NO_ZEROES else bytes(124)
        self._events.append(SendBytes(size_and_flags + padding))
        self._enter(offer)

    def _go(self, data: bytes) -> None:
        if (offer := self._describe(data)) is not None:
            self._enter(offer)

    def _info(self, data: bytes) -> None:
        self._describe(data)

    def _describe(self, data: bytes) -> ExportOffer | None:
        """Answer INFO or GO; the export, unless it was refused."""
        request = decode_info_request(data)
        offer = self._find(request.export_name)
        if offer is None:
            self._refuse_export(request.export_name)
            return None
        self._reply(
            wire.REPLY_INFO,
            wire.EXPORT_INFO.pack(
                wire.INFO_EXPORT, offer.size_bytes, self._transmission_flags(offer)
            ),
        )
        # Others than the first are sent to whoever asks.  Block sizes matter only to those
        # who do: none but the defaults are insisted on ("Block size constraints").
        for kind in sorted(set(request.wanted)):
            self._describe_further(offer, kind)
        self._reply(wire.REPLY_ACK)
        return offer

    def _describe_further(self, offer: ExportOffer, kind: int) -> None:
        texts = {wire.INFO_NAME: offer.name.encode(), wire.INFO_DESCRIPTION: offer.described}
        if kind in texts:
            self._reply(wire.REPLY_INFO, struct.pack(">H", kind) + texts[kind])
        elif kind == wire.INFO_BLOCK_SIZE:
            sizes = (1, offer.preferred_block_bytes, PAYLOAD_BYTES_MAX)
            self._reply(wire.REPLY_INFO, wire.BLOCK_SIZE_INFO.pack(kind, *sizes))

    def _list_contexts(self, data: bytes) -> None:
        request = decode_meta_request(data)
        offer = self._find(request.export_name)
        if offer is None:
            return self._refuse_export(request.export_name)
        # No query asks for all; a namespace alone ("base:") for those within it.
        for context in offer.contexts:
            namespace = context[: context.index(b":") + 1]
            if not request.queries or {context, namespace} & set(request.queries):
                self._reply(wire.REPLY_META_CONTEXT, bytes(4) + context)
        return self._reply(wire.REPLY_ACK)

    def _set_contexts(self, data: bytes) -> None:
        # It replaces what was set before even where it fails (NBD_OPT_SET_META_CONTEXT).
        self._contexts, self._contexts_of = {}, None
        request = decode_meta_request(data)
        if not self._has_structured_replies:
            raise InvalidOption("structured replies have to be agreed first")
        offer = self._find(request.export_name)
        if offer is None:
            return self._refuse_export(request.export_name)
        self._contexts_of = offer.name
        for context_id, context in enumerate(offer.contexts, start=1):
            if context in request.queries:
                self._contexts[context_id] = context
                self._reply(wire.REPLY_META_CONTEXT, wire.LENGTH.pack(context_id) + context)
        return self._reply(wire.REPLY_ACK)

    def _find(self, name: bytes) -> ExportOffer | None:
        """The export called *name*; the empty name is for the only one there is."""
        offers = self._offers()
        for offer in offers:
            if offer.name.encode() == name:
                return offer
        return offers[0] if not name and len(offers) == 1 else None

    def _transmission_flags(self, offer: ExportOffer) -> int:
        """Section "Transmission flags"."""
        flags = (
            wire.TRANSMISSION_HAS_FLAGS
            | wire.TRANSMISSION_SEND_FLUSH
            | wire.TRANSMISSION_SEND_FUA
            | wire.TRANSMISSION_MULTI_CONN
            | wire.TRANSMISSION_SEND_CACHE
        )
        if offer.is_read_only:
            flags |= wire.TRANSMISSION_READ_ONLY
        else:
            flags |= (
                wire.TRANSMISSION_SEND_TRIM
                | wire.TRANSMISSION_SEND_WRITE_ZEROES
                | wire.TRANSMISSION_SEND_FAST_ZERO
            )
        # "MUST leave this flag clear if structured replies have not been negotiated."
        return flags | (wire.TRANSMISSION_SEND_DF if self._has_structured_replies else 0)

    def _enter(self, offer: ExportOffer) -> None:
        # Contexts selected for another export do not count (NBD_OPT_SET_META_CONTEXT).
        contexts = self._contexts if self._contexts_of == offer.name else {}
        self._events.append(Agreement(offer, self._has_structured_replies, contexts))
        self._is_over = True

    def _end(self, reason: str | None) -> None:
        self._events.append(Ended(reason))
        self._is_over = True

    def _forget_agreements(self) -> None:
        self._has_structured_replies = False
        self._contexts, self._contexts_of = {}, None

    def _expect_no_data(self, data: bytes) -> None:
        if data:
            raise InvalidOption(f"option {self._option} takes no data")

    def _refuse_export(self, name: bytes) -> None:
        shown = name[:200].decode(errors="replace")
        self._refuse(wire.REPLY_ERROR_UNKNOWN, f"there is no export '{shown}'")

    def _refuse(self, error: int, message: str) -> None:
        self._reply(error, message.encode())

    def _reply(self, kind: int, payload: bytes = b"") -> None:
        head = (wire.OPTION_REPLY_MAGIC, self._option, kind, len(payload))
        self._events.append(SendBytes(wire.OPTION_REPLY.pack(*head) + payload))
