"""What a server offers under one name, and what a client and it agreed about it."""

from dataclasses import dataclass, field

from ebsim.nbd import wire

PAYLOAD_BYTES_MAX = 32 << 20
"""The most that one read or write may carry: what clients that ask nothing assume they may
send (section "Block size constraints")."""


@dataclass(frozen=True, slots=True)
class ExportOffer:
    """One export, as it is described to clients.

    *contexts* are the names of its metadata contexts.  The preferred block size is a power
    of two from 512 bytes to 32 MiB.
    """

    name: str
    description: str
    size_bytes: int
    is_read_only: bool
    preferred_block_bytes: int = 4096
    contexts: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.name.encode()) <= wire.STRING_BYTES_MAX, "a name is a string of NBD's"

    @property
    def described(self) -> bytes:
        """The description as it may be sent: a string has at most 4096 bytes."""
        text = self.description.encode(errors="replace")[: wire.STRING_BYTES_MAX]
        return text.decode(errors="ignore").encode()


@dataclass(frozen=True, slots=True)
class Agreement:
    """The outcome of a negotiation: what the connection may ask of which export.

    *contexts* are those that the client selected, by the id that replies call them; empty
    when block status may not be asked.
    """

    offer: ExportOffer
    has_structured_replies: bool
    contexts: dict[int, bytes] = field(default_factory=dict)
