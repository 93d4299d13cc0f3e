"""Whether parameters are what the service's model allows: required, limits, patterns, choices.

The words of constraints are those of Amazon's services, which clients show to people.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from ebsim.api.faults import RequestInvalid, Violation
from ebsim.api.params import Params, lower_first
from ebsim.api.service_models import Kind, Operation, Shape

_MUST = "Member must"
_SHOWN_MAX = 256


def validate(operation: Operation, params: Params) -> None:
    """Refuse *params* that the model does not allow.

    Raises:
        RequestInvalid: all that is wrong with them.
    """
    violations = list(_structure(operation.input, params, ""))
    if violations:
        raise RequestInvalid(violations)


def _structure(shape: Shape, values: Params, path: str) -> Iterator[Violation]:
    for name, member in shape.members.items():
        inner = f"{path}.{lower_first(name)}" if path else lower_first(name)
        value = values.get(name)
        if value is not None:
            yield from _value(member.shape, value, inner)
        elif name in shape.required:
            yield Violation(inner, None, f"{_MUST} not be null")


def _value(shape: Shape, value: object, path: str) -> Iterator[Violation]:
    if isinstance(value, dict) and shape.kind is Kind.STRUCTURE:
        yield from _structure(shape, value, path)
        return
    yield from (Violation(path, _shown(value), text) for text in _constraints(shape, value))
    if shape.element is not None and isinstance(value, list):
        for number, one in enumerate(value, 1):
            yield from _value(shape.element, one, f"{path}.{number}.member")
    elif shape.element is not None and isinstance(value, dict):
        for key, one in value.items():
            yield from _value(shape.element, one, f"{path}.{key}.member")


def _constraints(shape: Shape, value: object) -> Iterator[str]:
    """What *value* fails of its own shape, its elements aside."""
    measure: float | None = None
    what = "length"
    if isinstance(value, str | bytes | list | dict):
        measure = len(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        measure, what = value, "value"
    is_too_long = measure is not None and shape.maximum is not None and measure > shape.maximum
    if measure is not None and shape.minimum is not None and measure < shape.minimum:
        yield f"{_MUST} have {what} greater than or equal to {_plain(shape.minimum)}"
    if is_too_long:
        assert shape.maximum is not None, "it is exceeded"
        yield f"{_MUST} have {what} less than or equal to {_plain(shape.maximum)}"
    if not isinstance(value, str):
        return
    # A pattern is never tried on more text than the model allows for it.
    if (
        shape.pattern
        and not is_too_long
        and compiled_pattern(shape.pattern).fullmatch(value) is None
    ):
        yield f"{_MUST} satisfy regular expression pattern: {shape.pattern}"
    if shape.choices and value not in shape.choices:
        yield f"{_MUST} satisfy enum value set: [{', '.join(shape.choices)}]"


_CLASSES = {
    r"\p{all}": r"\s\S",
    # Letters and digits; the underscore is in every set that has both.
    r"\p{L}": r"\w",
    r"\p{N}": r"\w",
    r"\p{Z}": " \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
}
_REPEATED_TWICE = re.compile(r"(\[[^\]]*\]\{\d+\})(\{)")


@lru_cache(512)
def compiled_pattern(text: str) -> re.Pattern[str]:
    """A pattern of a model, which is one of Java's, as Python has it."""
    for theirs, ours in _CLASSES.items():
        text = text.replace(theirs, ours)
    return re.compile(_REPEATED_TWICE.sub(r"(?:\1)\2", text))


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _shown(value: object) -> str:
    text = f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "..."
