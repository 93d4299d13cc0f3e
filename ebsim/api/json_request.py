"""Parameters of the JSON protocols: a body, and for REST also path, query string, headers."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import unquote

from ebsim.api.faults import Malformed, RequestInvalid, Violation
from ebsim.api.params import Params, lower_first
from ebsim.api.scalars import read_blob, read_scalar, read_time
from ebsim.api.service_models import Kind, Member, Operation, Place, Service, Shape

_NESTING_MAX = 64


def find_route(
    service: Service, names: Sequence[str], method: str, raw_path: str
) -> tuple[str, dict[str, str]] | None:
    """The operation among *names* that a method and path mean, and what the path holds.

    Raises:
        Malformed: what the path holds is not UTF-8 behind its escapes.
    """
    for name in names:
        wanted_method, template = service.http_of(name)
        found = _pattern(template).fullmatch(raw_path) if method == wanted_method else None
        if found is not None:
            labels = _labels(template)
            try:
                values = [unquote(text, errors="strict") for text in found.groups()]
            except UnicodeDecodeError as error:
                raise Malformed("the path is not UTF-8") from error
            return name, dict(zip(labels, values, strict=True))
    return None


@lru_cache(256)
def _pattern(template: str) -> re.Pattern[str]:
    """What raw paths fit *template*: a label is one segment, ``{label+}`` any number."""
    parts = re.split(r"(\{[^}]+\})", template.partition("?")[0])
    return re.compile(
        "".join(
            ("(.+)" if part.endswith("+}") else "([^/]+)")
            if part.startswith("{")
            else re.escape(part)
            for part in parts
        )
        + "/?"
    )


@lru_cache(256)
def _labels(template: str) -> tuple[str, ...]:
    return tuple(label.rstrip("+") for label in re.findall(r"\{([^}]+)\}", template))


def parse_rest(
    operation: Operation,
    *,
    labels: Mapping[str, str],
    query: Sequence[tuple[str, str]],
    headers: Mapping[str, str],
    body: bytes,
) -> Params:
    """The parameters of a REST request, by the names that boto3 uses.

    Raises:
        Malformed: the body is no JSON object.
        RequestInvalid: a value is not of its type.
    """
    parsed: Params = {}
    in_body: dict[str, Member] = {}
    lists: dict[str, list[str]] = {}
    for name, value in query:
        lists.setdefault(name, []).append(value)
    last = dict(query)
    for name, member in operation.input.members.items():
        text: str | None = None
        match member.place:
            case Place.PATH:
                text = labels.get(member.wire_name)
            case Place.HEADER:
                text = headers.get(member.wire_name.lower())
            case Place.QUERY if member.shape.kind is Kind.LIST and member.wire_name in lists:
                assert member.shape.element is not None, "a list has elements"
                element = member.shape.element
                parsed[name] = [_text(element, t, name) for t in lists[member.wire_name]]
            case Place.QUERY:
                text = last.get(member.wire_name)
            case _:
                in_body[name] = member
        if text is not None:
            parsed[name] = _text(member.shape, text, name)
    if operation.payload_in is not None:
        return parsed | _payload(operation, body)
    return parsed | (_members(in_body, read_object(body), "") if in_body else {})


def _payload(operation: Operation, body: bytes) -> Params:
    name = operation.payload_in
    assert name is not None, "asked for an operation that has one"
    shape = operation.input.members[name].shape
    if shape.kind is Kind.BLOB:
        return {name: body}
    return {name: _members(shape.members, read_object(body), lower_first(name))} if body else {}


def parse_json(operation: Operation, body: bytes) -> Params:
    """The parameters in a JSON body.

    Raises:
        As :func:`parse_rest`.
    """
    return _members(operation.input.members, read_object(body), "")


def read_object(body: bytes) -> Mapping[str, object]:
    """The JSON object that *body* is; an empty body is an empty object."""
    if not body.strip():
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed("the body is no JSON") from error
    if not isinstance(found, dict):
        raise Malformed("the body is no JSON object")
    return found


def _text(shape: Shape, text: str, name: str) -> object:
    try:
        return read_scalar(shape, text)
    except ValueError as error:
        raise RequestInvalid([Violation(lower_first(name), text, str(error))]) from error


def _members(
    members: Mapping[str, Member], found: Mapping[str, object], path: str, depth: int = 0
) -> Params:
    """The members that *found* has; others are passed over, as Amazon's JSON services do."""
    parsed: Params = {}
    for name, member in members.items():
        value = found.get(member.wire_name)
        if value is not None:
            inner = f"{path}.{lower_first(name)}" if path else lower_first(name)
            parsed[name] = _value(member.shape, value, inner, depth + 1)
    return parsed


_TYPES: Mapping[Kind, tuple[type, ...]] = {
    Kind.STRUCTURE: (dict,),
    Kind.MAP: (dict,),
    Kind.LIST: (list,),
    Kind.STRING: (str,),
    Kind.CHARACTER: (str,),
    Kind.INTEGER: (int,),
    Kind.LONG: (int,),
    Kind.FLOAT: (int, float),
    Kind.DOUBLE: (int, float),
    Kind.BOOLEAN: (bool,),
    Kind.TIMESTAMP: (int, float, str),
    Kind.BLOB: (str,),
}


def _value(shape: Shape, value: object, path: str, depth: int) -> object:
    is_truth = isinstance(value, bool)
    if not isinstance(value, _TYPES[shape.kind]) or is_truth != (shape.kind is Kind.BOOLEAN):
        raise Malformed(f"'{path}' is not of type {shape.kind}")
    if depth > _NESTING_MAX:
        raise Malformed("the body is nested too deep")
    if isinstance(value, dict):
        if shape.kind is Kind.STRUCTURE:
            return _members(shape.members, value, path, depth)
        assert shape.element is not None, "a map has values"
        return {
            key: _value(shape.element, one, f"{path}.{key}.member", depth + 1)
            for key, one in value.items()
            if one is not None
        }
    if isinstance(value, list):
        return [
            _element(shape, one, f"{path}.{number}.member", depth + 1)
            for number, one in enumerate(value, 1)
        ]
    return _scalar(shape, value, path)


def _element(shape: Shape, value: object, path: str, depth: int) -> object:
    assert shape.element is not None, "a list has elements"
    if value is None:
        raise Malformed(f"'{path}' is null")
    return _value(shape.element, value, path, depth)


def _scalar(shape: Shape, value: object, path: str) -> object:
    if isinstance(value, str) and not value.isprintable():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            # JSON can write half a character; nothing that is stored or answered could.
            raise Malformed(f"'{path}' is not text") from error
    try:
        if shape.kind is Kind.TIMESTAMP:
            if isinstance(value, str):
                return read_time(value)
            assert isinstance(value, int | float), "checked by _TYPES"
            return datetime.fromtimestamp(value, UTC)
        if shape.kind is Kind.BLOB:
            return read_blob(str(value))
        if shape.kind in {Kind.INTEGER, Kind.LONG}:
            return read_scalar(shape, str(value))
    except (ValueError, OverflowError, OSError) as error:
        raise RequestInvalid([Violation(path, str(value)[:64], str(error))]) from error
    return value
