"""Amazon's own descriptions of its services, as botocore ships them.

The one module that knows botocore.  A model is read when its service is first used, and an
operation's shapes are turned into the small types here when that operation is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel


class Wire(StrEnum):
    """How a service's requests and answers are written."""

    EC2 = "ec2"
    QUERY = "query"
    REST_JSON = "rest-json"
    JSON = "json"


class Kind(StrEnum):
    """What a value is."""

    STRUCTURE = "structure"
    LIST = "list"
    MAP = "map"
    STRING = "string"
    CHARACTER = "character"
    INTEGER = "integer"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    BLOB = "blob"


class Place(StrEnum):
    """Where in a request or an answer a member is written."""

    BODY = "body"
    PATH = "uri"
    QUERY = "querystring"
    HEADER = "header"
    STATUS = "statusCode"


@dataclass(frozen=True, slots=True)
class Shape:
    """The type of a value.

    Attributes:
        members: Of a structure, by the name that boto3 uses.
        element: Of a list, its elements; of a map, its values.
        element_name: What XML calls the elements of a list.
        is_flat: Whether XML writes the elements without a list around them.
        minimum, maximum: Of a number its value; of other things their length.
    """

    kind: Kind
    members: "Mapping[str, Member]" = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    element: "Shape | None" = None
    element_name: str = "member"
    is_flat: bool = False
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    choices: tuple[str, ...] = ()
    timestamp_format: str | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a structure.

    Attributes:
        wire_name: What it is called in XML, JSON, a path, a query string or a header.
        query_name: What it is called in a form.
    """

    shape: Shape
    wire_name: str
    query_name: str
    place: Place = Place.BODY


@dataclass(frozen=True, slots=True)
class Operation:
    """An action of a service.

    Attributes:
        path: The template of its path, such as ``/snapshots/{snapshotId}/blocks``.
        payload_in, payload_out: The member that is the whole body, if one is.
        wrapper: The element around a query answer's members.
    """

    service: str
    name: str
    method: str
    path: str
    success_status: int
    input: Shape
    output: Shape
    payload_in: str | None
    payload_out: str | None
    wrapper: str | None


_LOOSE = frozenset({"BlockToken", "PageToken"})
"""Shapes of EBS whose pattern Amazon's own tokens, in URL-safe base64, do not fit."""


class Service:
    """A service's model."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._model = ServiceModel(_loader().load_service_model(name, "service-2"), name)
        self._shapes: dict[str, Shape] = {}
        self._operations: dict[str, Operation] = {}
        self.wire = Wire(self._model.protocol)
        self.api_version: str = self._model.api_version
        self.namespace: str = str(self._model.metadata.get("xmlNamespace", "")).rstrip("/") + "/"
        self.target_prefix: str = self._model.metadata.get("targetPrefix", "")
        self.operation_names: frozenset[str] = frozenset(self._model.operation_names)

    def operation(self, name: str) -> Operation:
        """The operation *name*, one of ``operation_names``."""
        found = self._operations.get(name)
        if found is None:
            # Two threads may both make it; they make the same.
            found = self._operations.setdefault(name, self._made(name))
        return found

    def http_of(self, name: str) -> tuple[str, str]:
        """Method and path template of an operation."""
        http = self._model.operation_model(name).http
        return str(http["method"]), str(http["requestUri"])

    def _made(self, name: str) -> Operation:
        model = self._model.operation_model(name)
        given, answer = model.input_shape, model.output_shape
        return Operation(
            service=self.name,
            name=name,
            method=model.http["method"],
            path=model.http["requestUri"],
            success_status=int(model.http.get("responseCode", 200)),
            input=self._shape(given, ()) if given is not None else Shape(Kind.STRUCTURE),
            output=self._shape(answer, ()) if answer is not None else Shape(Kind.STRUCTURE),
            payload_in=given.serialization.get("payload") if given is not None else None,
            payload_out=answer.serialization.get("payload") if answer is not None else None,
            wrapper=answer.serialization.get("resultWrapper") if answer is not None else None,
        )

    def _shape(self, model: Any, outer: tuple[str, ...]) -> Shape:
        assert model.name not in outer, f"{self.name}: {model.name} contains itself"
        inner = (*outer, model.name)
        kind = Kind(model.type_name)
        limits = model.metadata
        members: dict[str, Member] = {}
        element: Shape | None = None
        element_name = "member"
        if kind is Kind.STRUCTURE:
            members = {n: self._member(n, m, inner) for n, m in model.members.items()}
        elif kind is Kind.LIST:
            element = self._shape(model.member, inner)
            element_name = model.member.serialization.get("name", "member")
        elif kind is Kind.MAP:
            element = self._shape(model.value, inner)
        return Shape(
            kind=kind,
            members=members,
            required=frozenset(limits.get("required", ())),
            element=element,
            element_name=element_name,
            is_flat=bool(model.serialization.get("flattened")),
            minimum=limits.get("min"),
            maximum=limits.get("max"),
            pattern=None if model.name in _LOOSE else limits.get("pattern"),
            choices=tuple(limits.get("enum", ())),
            timestamp_format=model.serialization.get("timestampFormat"),
        )

    def _member(self, name: str, model: Any, outer: tuple[str, ...]) -> Member:
        traits = model.serialization
        wire_name = traits.get("name", name)
        query_name = traits.get("queryName") or wire_name
        if self.wire is Wire.EC2 and "queryName" not in traits:
            query_name = query_name[:1].upper() + query_name[1:]
        return Member(
            shape=self._shape(model, outer),
            wire_name=wire_name,
            query_name=query_name,
            place=Place(traits.get("location", "body")),
        )


@lru_cache(1)
def _loader() -> Loader:
    return Loader()


@lru_cache(16)
def service(name: str) -> Service:
    """The model of the service that botocore calls *name*; read once."""
    return Service(name)


@lru_cache(1)
def amazon_regions() -> Mapping[str, str]:
    """The regions that Amazon has, each with what it is called in prose."""
    partitions = _loader().load_data("endpoints")["partitions"]
    return {
        name: str(region["description"])
        for partition in partitions
        for name, region in partition["regions"].items()
        if not name.endswith("-global")
    }
