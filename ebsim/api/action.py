"""What an action is: a function, and the parameters that it understands."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ebsim.api.call import Call
from ebsim.api.params import Answer, Params

Perform = Callable[[Call, Params], Answer]

_READING = ("Describe", "Get", "List")
_ALWAYS_SUPPORTED = frozenset({"DryRun"})


@dataclass(frozen=True, slots=True)
class Action:
    """An action that is served.

    Attributes:
        supported: The members of its input that it heeds.  ``A`` is a member with all that
            is in it; ``A.B`` only that of A, whether A is a structure or a list of them.
    """

    name: str
    perform: Perform
    supported: frozenset[str]

    @property
    def is_reading(self) -> bool:
        """Whether it changes nothing."""
        return self.name.startswith(_READING)

    def unsupported(self, params: Params) -> str | None:
        """The first parameter given that it does not heed, as ``A.B``."""
        return next(_unsupported(params, "", self.supported | _ALWAYS_SUPPORTED), None)


def action(name: str, perform: Perform, *supported: str) -> Action:
    """An action by its name, its function and the members that it supports."""
    return Action(name, perform, frozenset(supported))


def _unsupported(values: Params, path: str, supported: frozenset[str]) -> Iterator[str]:
    for name, value in values.items():
        inner = f"{path}.{name}" if path else name
        if inner in supported:
            continue
        if not any(member.startswith(f"{inner}.") for member in supported):
            yield inner
            continue
        for one in value if isinstance(value, list) else [value]:
            yield from _unsupported(one, inner, supported)
