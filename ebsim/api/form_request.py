"""Parameters of the EC2 and query protocols: a form of dotted names.

``Filter.1.Value.2=x`` is the second value of the first filter.  Lists count from 1; the
query protocol puts ``member`` before the number.  Indexes only give the order, so that a
form cannot ask for room that it did not itself take.
"""

from collections.abc import Sequence
from urllib.parse import unquote_plus

from ebsim.api.faults import Malformed, RequestInvalid, UnknownMember, Violation
from ebsim.api.params import Params, lower_first
from ebsim.api.scalars import read_scalar
from ebsim.api.service_models import Kind, Operation, Service, Shape, Wire

FIELD_COUNT_MAX = 20_000
_DEPTH_MAX = 12
_ENVELOPE = frozenset({"Action", "Version"})

Tree = dict[str, "Tree | str"]


def read_form(text: str) -> list[tuple[str, str]]:
    """The fields of a form or a query string, in the order given.

    Raises:
        Malformed: it has too many, or is not UTF-8 behind its escapes.
    """
    parts = [part for part in text.split("&") if part]
    if len(parts) > FIELD_COUNT_MAX:
        raise Malformed(f"{len(parts)} fields, expected at most {FIELD_COUNT_MAX}")
    try:
        return [
            (unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict"))
            for name, _, value in (part.partition("=") for part in parts)
        ]
    except UnicodeDecodeError as error:
        raise Malformed("a field is not UTF-8") from error


def parse_form(
    service: Service, operation: Operation, fields: Sequence[tuple[str, str]]
) -> Params:
    """The parameters that *fields* give, by the names that boto3 uses.

    Raises:
        Malformed: a field is there twice, or both a value and a structure.
        UnknownMember: the operation has no such parameter.
        RequestInvalid: a value is not of its type.
    """
    tree: Tree = {}
    for name, value in fields:
        # What a presigned address carries is no parameter.
        if name not in _ENVELOPE and not name.startswith("X-Amz-"):
            _plant(tree, name, value)
    parsed = _structure(operation.input, tree, "", has_member=service.wire is Wire.QUERY)
    assert isinstance(parsed, dict), "an operation's input is a structure"
    return parsed


def _plant(tree: Tree, name: str, value: str) -> None:
    *outer, last = name.split(".", _DEPTH_MAX)
    branch = tree
    for word in outer:
        inner = branch.setdefault(word, {})
        if isinstance(inner, str):
            raise Malformed(f"'{name}' is inside a value")
        branch = inner
    if last in branch:
        raise Malformed(f"'{name}' is there twice")
    branch[last] = value


def _value(shape: Shape, found: Tree | str, path: str, *, has_member: bool) -> object:
    match shape.kind:
        case Kind.STRUCTURE:
            if isinstance(found, str):
                raise UnknownMember(path)
            return _structure(shape, found, path, has_member=has_member)
        case Kind.LIST:
            return _elements(shape, found, path, has_member=has_member)
        case Kind.MAP:
            raise UnknownMember(path)
    if not isinstance(found, str):
        raise UnknownMember(f"{path}.{next(iter(found))}")
    try:
        return read_scalar(shape, found)
    except ValueError as error:
        raise RequestInvalid([Violation(lower_first(path), found, str(error))]) from error


def _structure(shape: Shape, tree: Tree, path: str, *, has_member: bool) -> Params:
    by_wire_name = {member.query_name: name for name, member in shape.members.items()}
    parsed: Params = {}
    for word, found in tree.items():
        inner = f"{path}.{word}" if path else word
        name = by_wire_name.get(word)
        if name is None:
            raise UnknownMember(inner)
        parsed[name] = _value(shape.members[name].shape, found, inner, has_member=has_member)
    return parsed


def _elements(shape: Shape, found: Tree | str, path: str, *, has_member: bool) -> list[object]:
    assert shape.element is not None, "a list has elements"
    if found == "":
        return []
    if has_member and isinstance(found, dict) and not shape.is_flat:
        found = found.get("member", found)
    if isinstance(found, str):
        raise UnknownMember(path)
    numbers: dict[int, str] = {}
    for word in found:
        if not word.isascii() or not word.isdecimal() or len(word) > 9 or int(word) in numbers:
            raise UnknownMember(f"{path}.{word}")
        numbers[int(word)] = word
    return [
        _value(shape.element, found[word], f"{path}.{word}", has_member=has_member)
        for _, word in sorted(numbers.items())
    ]
