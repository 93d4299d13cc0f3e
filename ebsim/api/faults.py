"""What is told to a client whose request failed, before it is written as XML or JSON."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ebsim.errors import InvalidRequest


class Violation(NamedTuple):
    """A value that the service's model does not allow.

    Attributes:
        path: Where it is, such as ``filters.1.member.name``; names begin in lower case.
        shown: The value as text; ``None`` where it is missing.
        constraint: What was expected, in Amazon's words.
    """

    path: str
    shown: str | None
    constraint: str


class ApiError(InvalidRequest):
    """A failure with the code, status and members that Amazon gives.

    Attributes:
        fields: Members of a JSON error beside its message, such as ``Reason``.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 400,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        self.code = code
        self.message = message
        self.status = status
        self.fields = dict(fields or {})
        super().__init__(message)


class RequestInvalid(InvalidRequest):
    """The request does not fit the service's model."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = violations
        super().__init__("; ".join(f"{v.path}: {v.constraint}" for v in violations))


class UnknownMember(InvalidRequest):
    """The request names a member that the operation does not have."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"the operation has no '{path}'")


class Malformed(InvalidRequest):
    """The body, path or query string cannot be read at all."""
