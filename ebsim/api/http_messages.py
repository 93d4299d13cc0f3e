"""A request as it came and an answer as it goes, without the server that carries them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request.

    Attributes:
        raw_path: The path as it was sent, escapes and all.
        query: The fields of the query string, decoded, in the order sent.
        headers: By lower-case name; one that is there twice has both values, with a comma.
    """

    method: str
    raw_path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
