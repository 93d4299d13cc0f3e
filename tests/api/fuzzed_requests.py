"""Requests made up from the services' models: some are right, most nearly are."""

import base64
import json
from collections.abc import Mapping, Sequence
from random import Random
from urllib.parse import quote, urlencode

from ebsim.api.form_request import read_form
from ebsim.api.http_messages import Request
from ebsim.api.service_models import Kind, Operation, Place, Service, Shape, Wire

ODD_TEXTS = (
    "", " ", "\0", "\x1b[31m", "é", "\U0001f600", "x" * 300, "../../etc/passwd", "%00", "<&>",
    "null", "-1", "*", "?", "\\", "self", "all", "true", "2026-01-01T00:00:00Z", "1e309",
)  # fmt: skip
ODD_NUMBERS = (-(2**63), -1, 0, 1, 5, 7, 10, 99, 100, 1000, 10_000, 65_537, 2**31 - 1, 2**63)


class Maker:
    """Makes values; *known* are ids that mean something to the server."""

    def __init__(self, random: Random, known: Sequence[str]) -> None:
        self._random = random
        self._known = known

    def value(self, shape: Shape, name: str = "") -> object:
        """A value for *shape*, one time in eight of another type."""
        random = self._random
        if random.random() < 0.125:
            return random.choice([None, True, 1, "x", [], {}, [{}], {"a": 1}, 1.5])
        match shape.kind:
            case Kind.STRUCTURE:
                return self.structure(shape)
            case Kind.LIST:
                assert shape.element is not None
                return [
                    self.value(shape.element, name) for _ in range(random.choice([0, 1, 1, 2]))
                ]
            case Kind.MAP:
                return {"k": "v"}
            case Kind.BOOLEAN:
                return random.choice([True, False])
            case Kind.INTEGER | Kind.LONG | Kind.FLOAT | Kind.DOUBLE:
                return random.choice(ODD_NUMBERS)
            case Kind.TIMESTAMP:
                return random.choice([1_800_000_000, -1, 1e308, "2026-13-01", "nan"])
            case Kind.BLOB:
                return base64.b64encode(random.randbytes(8)).decode()
        return self.text(shape, name)

    def text(self, shape: Shape, name: str) -> str:
        random = self._random
        if shape.choices and random.random() < 0.8:
            return random.choice(shape.choices)
        if (
            name.lower().endswith(("id", "ids", "resources", "identifier"))
            or random.random() < 0.3
        ):
            return random.choice(self._known)
        return random.choice(ODD_TEXTS)

    def structure(self, shape: Shape) -> dict[str, object]:
        """Most of its required members, and some others."""
        random = self._random
        return {
            name: self.value(member.shape, name)
            for name, member in shape.members.items()
            if random.random() < (0.95 if name in shape.required else 0.3)
        }


def fuzzed(of: Service, operation: Operation, random: Random, known: Sequence[str]) -> Request:
    """A request for *operation*."""
    values = Maker(random, known).structure(operation.input)
    match of.wire:
        case Wire.EC2 | Wire.QUERY:
            fields = [("Action", operation.name), *_fields(operation.input, values, "")]
            body = _damaged(urlencode(fields).encode(), random)
            return Request("POST", "/", headers=_headers(of), body=body)
        case Wire.JSON:
            headers = {**_headers(of), "x-amz-target": f"{of.target_prefix}.{operation.name}"}
            body = _damaged(_json(operation.input, values), random)
            return Request("POST", "/", headers=headers, body=body)
    return _rest(of, operation, values, random)


def _headers(of: Service) -> dict[str, str]:
    return {"host": f"{of.name}.us-east-1.amazonaws.com"}


def _damaged(body: bytes, random: Random) -> bytes:
    """*body*, one time in ten with a byte changed, or cut short."""
    if body and random.random() < 0.1:
        at = random.randrange(len(body))
        return random.choice([body[:at], body[:at] + random.randbytes(1) + body[at + 1 :]])
    return body


def _fields(shape: Shape, values: Mapping[str, object], path: str) -> list[tuple[str, str]]:
    fields: list[tuple[str, str]] = []
    for name, value in values.items():
        member = shape.members[name]
        fields += _field(member.shape, value, f"{path}{member.query_name}")
    return fields


def _field(shape: Shape, value: object, name: str) -> list[tuple[str, str]]:
    if isinstance(value, dict) and shape.kind is Kind.STRUCTURE:
        return _fields(shape, {n: v for n, v in value.items() if n in shape.members}, f"{name}.")
    if isinstance(value, list) and shape.element is not None:
        inner = shape.element
        return [
            field
            for number, one in enumerate(value, 1)
            for field in _field(inner, one, f"{name}.{number}")
        ]
    return [(name, str(value).lower() if isinstance(value, bool) else str(value))]


def _json(shape: Shape, values: Mapping[str, object]) -> bytes:
    return json.dumps({shape.members[n].wire_name: v for n, v in values.items()}).encode()


def _rest(
    of: Service, operation: Operation, values: Mapping[str, object], random: Random
) -> Request:
    path, query, headers = operation.path, {}, _headers(of)
    in_body: dict[str, object] = {}
    members = operation.input.members
    for name, member in members.items():
        value = values.get(name, "x")
        match member.place:
            case Place.PATH:
                # An empty segment is another path.
                text = quote(str(value), safe="") or "x"
                path = path.replace(f"{{{member.wire_name}}}", text)
            case Place.QUERY if name in values:
                query[member.wire_name] = str(value)
            case Place.HEADER if name in values:
                headers[member.wire_name.lower()] = str(value)
            case Place.BODY if name in values:
                in_body[name] = value
    if operation.payload_in is not None:
        body = random.randbytes(random.choice([0, 1, 524_288]))
    else:
        body = _damaged(_json(operation.input, in_body), random)
    return Request(operation.method, path, tuple(read_form(urlencode(query))), headers, body)
