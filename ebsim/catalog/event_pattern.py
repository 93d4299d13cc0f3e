"""EventBridge's event patterns: which events somebody wants.

A pattern is an object whose fields are those of the event.  A field's pattern is a list of
alternatives, of which one must fit; or an object that goes one level deeper.  All fields of
a pattern must fit; ``$or`` holds a list of patterns of which one must.

    "state"                         this string, number, true, false or null
    {"prefix": "a"}                 begins so; also {"prefix": {"equals-ignore-case": "a"}}
    {"suffix": "a"}                 ends so; likewise
    {"equals-ignore-case": "a"}     the same but for case
    {"wildcard": "a*c"}             * is any characters, \\ takes it as it is
    {"anything-but": X}             none of X: a value, a list, or one of the five above
    {"numeric": [">", 0, "<=", 5]}  a number within these bounds
    {"exists": true}                the field is there, with a value; false: it is not

A field of the event that is a list fits if one of its values does.  What else Amazon has
(``cidr``) is refused by name.

This module is pure.

Source:
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
"""

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ebsim.errors import InvalidRequest, UnsupportedParameter

SIZE_MAX = 4096
"""Characters of a pattern, as Amazon limits them."""

_DEPTH_MAX = 32

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_LOWER, _UPPER = {">", ">="}, {"<", "<="}

_Fits = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class _Field:
    """What a field's values must fit: one of some tests; *absent* says it may be missing."""

    tests: Sequence[_Fits]
    absent: bool


@dataclass(frozen=True, slots=True)
class _Level:
    """A pattern's object: its fields, and the alternatives of its ``$or``."""

    fields: Mapping[str, "_Field | _Level"]
    any_of: Sequence["_Level"]


class EventPattern:
    """A pattern, checked once and then asked of many events.  Safe to share by threads."""

    __slots__ = ("_level", "text")

    def __init__(self, text: str) -> None:
        """Parse *text*, JSON.

        Raises:
            InvalidRequest: it is no pattern.
            UnsupportedParameter: it uses an operator that ebsim does not have.
        """
        self.text = text
        if len(text) > SIZE_MAX:
            _refuse(f"it has {len(text)} characters, more than {SIZE_MAX}")
        try:
            values = json.loads(text, object_pairs_hook=_once)
        except RecursionError:
            _refuse("it is nested too deeply")
        except ValueError as error:
            _refuse(f"it is not JSON: {error}")
        self._level = _level(values, "the pattern", 0)

    def fits(self, document: Mapping[str, Any]) -> bool:
        """Whether an event, in the shape in which EventBridge sends it, fits."""
        return _fits_level(self._level, document)


def _refuse(reason: str) -> NoReturn:
    raise InvalidRequest(f"Event pattern is not valid. Reason: {reason}.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        _refuse("a field is named twice")
    return values


def _fits_level(level: _Level, values: Mapping[str, Any]) -> bool:
    if level.any_of and not any(_fits_level(one, values) for one in level.any_of):
        return False
    return all(_fits_field(field, values.get(name, ())) for name, field in level.fields.items())


def _fits_field(field: "_Field | _Level", value: object) -> bool:
    """Whether a field's *value* fits; an empty tuple is a field that is missing."""
    if isinstance(field, _Level):
        # The elements of a list of objects are alternatives, like those of a list of values.
        inner = value if isinstance(value, list) else [value]
        objects = [one for one in inner if isinstance(one, dict)] or [{}]
        return any(_fits_level(field, one) for one in objects)
    values = value if isinstance(value, list | tuple) else [value]
    leaves = [one for one in values if not isinstance(one, dict | list)]
    if not leaves:
        return field.absent
    return any(test(leaf) for test in field.tests for leaf in leaves)


def _level(values: object, where: str, depth: int) -> _Level:
    if not isinstance(values, dict) or not values:
        _refuse(f"{where} must be an object with at least one field")
    if depth > _DEPTH_MAX:
        _refuse("it is nested too deeply")
    any_of: list[_Level] = []
    fields: dict[str, _Field | _Level] = {}
    for name, inner in values.items():
        if name == "$or":
            if not isinstance(inner, list) or len(inner) < 2:
                _refuse('"$or" must be a list of at least two patterns')
            any_of = [_level(one, '"$or"', depth + 1) for one in inner]
        elif isinstance(inner, list):
            fields[name] = _field(inner, name)
        elif isinstance(inner, dict):
            fields[name] = _level(inner, f'"{name}"', depth + 1)
        else:
            _refuse(f'"{name}" must be an object or an array')
    return _Level(fields, any_of)


def _field(alternatives: Sequence[Any], name: str) -> _Field:
    if not alternatives:
        _refuse(f'"{name}" is an empty array')
    tests: list[_Fits] = []
    absent = False
    for alternative in alternatives:
        if alternative == {"exists": False}:
            absent = True
        else:
            tests.append(_test(alternative, name))
    return _Field(tests, absent)


def _test(alternative: object, name: str) -> _Fits:
    """The test for one alternative of a field's list."""
    if isinstance(alternative, list):
        _refuse(f'"{name}" has an array in its array')
    if not isinstance(alternative, dict):
        return _is_exactly(alternative)
    if len(alternative) != 1:
        _refuse(f'"{name}" has an object with {len(alternative)} operators; expected one')
    ((key, operand),) = alternative.items()
    if key == "exists":
        if operand is not True:
            _refuse('"exists" must be true or false')
        return lambda value: True  # noqa: ARG005 (whatever it is, it is there)
    if key == "numeric":
        return _is_within(operand)
    if key == "anything-but":
        return _is_nothing_of(operand)
    if key in _STRINGS:
        return _STRINGS[key](operand)
    if key == "cidr":
        raise UnsupportedParameter(
            "The operator 'cidr' of event patterns is not supported. Nothing was changed. "
            "No field of an EBS event holds an address."
        )
    _refuse(f"unrecognized match type {key}")


def _is_exactly(wanted: object) -> _Fits:
    # True is 1 in Python, and not in JSON; 300 and 300.0 are one number.
    is_bool = isinstance(wanted, bool)
    return lambda value: value == wanted and isinstance(value, bool) is is_bool


def _text(operand: object, key: str) -> str:
    if not isinstance(operand, str) or not operand:
        _refuse(f'"{key}" takes a string that is not empty')
    return operand


def _affix(key: str, test: Callable[[str, str], bool]) -> Callable[[Any], _Fits]:
    def make(operand: object) -> _Fits:
        if isinstance(operand, dict) and operand.keys() == {"equals-ignore-case"}:
            folded = _text(operand["equals-ignore-case"], key).casefold()
            return lambda value: isinstance(value, str) and test(value.casefold(), folded)
        wanted = _text(operand, key)
        return lambda value: isinstance(value, str) and test(value, wanted)

    return make


def _equals_ignoring_case(operand: object) -> _Fits:
    folded = _text(operand, "equals-ignore-case").casefold()
    return lambda value: isinstance(value, str) and value.casefold() == folded


def _wildcard(operand: object) -> _Fits:
    pieces = [""]
    characters = iter(_text(operand, "wildcard"))
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            if escaped not in {"*", "\\"}:
                _refuse("a backslash in a wildcard stands before * or another one")
            pieces[-1] += escaped
        elif character == "*":
            if len(pieces) > 1 and not pieces[-1]:
                _refuse("consecutive wildcard characters")
            pieces.append("")
        else:
            pieces[-1] += character
    return lambda value: isinstance(value, str) and _has_pieces(value, pieces)


def _has_pieces(value: str, pieces: Sequence[str]) -> bool:
    """Whether *value* is these *pieces* in order, anything between them.

    Without a regular expression: several asterisks would cost it more than the length.
    """
    first, *others = pieces
    if not others:
        return value == first
    *middle, last = others
    at, stop = len(first), len(value) - len(last)
    if at > stop or not value.startswith(first) or not value.endswith(last):
        return False
    for piece in middle:
        found = value.find(piece, at, stop)
        if found < 0:
            return False
        at = found + len(piece)
    return True


_STRINGS: dict[str, Callable[[Any], _Fits]] = {
    "prefix": _affix("prefix", str.startswith),
    "suffix": _affix("suffix", str.endswith),
    "equals-ignore-case": _equals_ignoring_case,
    "wildcard": _wildcard,
}


def _is_nothing_of(operand: object) -> _Fits:
    if isinstance(operand, dict):
        if len(operand) != 1 or not operand.keys() <= _STRINGS.keys():
            _refuse('"anything-but" takes values, or one operator on strings')
        ((key, inner),) = operand.items()
        operators = [_STRINGS[key](one) for one in (inner if isinstance(inner, list) else [inner])]
        return lambda value: not any(test(value) for test in operators)
    wanted = operand if isinstance(operand, list) else [operand]
    if not wanted or any(isinstance(one, dict | list) for one in wanted):
        _refuse('"anything-but" takes values, or one operator on strings')
    exactly = [_is_exactly(one) for one in wanted]
    return lambda value: not any(test(value) for test in exactly)


def _is_within(operand: object) -> _Fits:
    if not isinstance(operand, list) or len(operand) not in {2, 4}:
        _refuse('"numeric" takes an operator and a number, or two of both')
    bounds = [(operand[at], operand[at + 1]) for at in range(0, len(operand), 2)]
    for symbol, bound in bounds:
        if not isinstance(symbol, str) or symbol not in _COMPARISONS:
            _refuse(f"unrecognized numeric range operator {symbol}")
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            _refuse(f"the value of numeric range operator {symbol} must be a number")
    if len(bounds) == 2:
        (low, low_bound), (high, high_bound) = bounds
        if low not in _LOWER or high not in _UPPER or low_bound >= high_bound:
            _refuse("a numeric range has its lower bound first, and one number at least")
    tests = [(_COMPARISONS[symbol], bound) for symbol, bound in bounds]

    def fits(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return all(compare(value, bound) for compare, bound in tests)

    return fits
