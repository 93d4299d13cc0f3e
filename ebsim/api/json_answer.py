"""Answers and errors in JSON, and what of them goes into headers."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from ebsim.api.faults import ApiError
from ebsim.api.params import Answer
from ebsim.api.scalars import iso_text, write_scalar
from ebsim.api.service_models import Kind, Member, Operation, Place, Service, Shape, Wire

EXPLICIT_NULLS = frozenset({"ebs"})
"""Services whose answers spell out members that have no value."""

UNPUBLISHED = {("ebs", "ListChangedBlocks"): ("LastEvaluatedBlockIndex",)}
"""Members that Amazon sends and the model does not have; always null."""

_ERROR_TYPE_SUFFIX = {
    "ebs": "http://internal.amazon.com/coral/com.amazon.zeppelindataservice/",
}
MODEL_ERROR_SUFFIX = "http://internal.amazon.com/coral/com.amazon.coral.validate/"


class Written(NamedTuple):
    """An answer's status, headers and body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def write_answer(service: Service, operation: Operation, answer: Answer) -> Written:
    """What answers *operation*."""
    status = operation.success_status
    members = operation.output.members
    unknown = answer.keys() - members.keys()
    assert not unknown, f"the model has no {sorted(unknown)}"
    headers = []
    in_body: dict[str, Member] = {}
    for name, member in members.items():
        value = answer.get(name)
        if member.place is Place.HEADER:
            if value is not None:
                text = write_scalar(member.shape, value, default_format="rfc822")
                headers.append((member.wire_name, text))
        elif member.place is Place.STATUS:
            status = int(value) if value is not None else status
        else:
            in_body[name] = member
    if operation.payload_out is not None and _is_blob(members[operation.payload_out]):
        body = answer[operation.payload_out]
        return Written(status, [("Content-Type", "application/octet-stream"), *headers], body)
    with_nulls = service.name in EXPLICIT_NULLS
    document = _document(in_body, answer, with_nulls=with_nulls)
    document |= dict.fromkeys(UNPUBLISHED.get((service.name, operation.name), ()))
    return Written(status, [("Content-Type", content_type(service)), *headers], _dump(document))


def content_type(service: Service) -> str:
    """What a service says that its JSON is."""
    return "application/x-amz-json-1.1" if service.wire is Wire.JSON else "application/json"


def write_error(service: Service, error: ApiError, *, is_of_model: bool) -> Written:
    """What says what was wrong; *is_of_model* if the service's model already refuses it."""
    headers = [("Content-Type", content_type(service))]
    if service.wire is Wire.JSON:
        document = {"__type": error.code, "message": error.message, **error.fields}
        return Written(error.status, headers, _dump(document))
    suffix = MODEL_ERROR_SUFFIX if is_of_model else _ERROR_TYPE_SUFFIX.get(service.name, "")
    headers.append(("x-amzn-ErrorType", f"{error.code}:{suffix}"))
    document = {"message" if is_of_model else "Message": error.message, **error.fields}
    return Written(error.status, headers, _dump(document))


def _is_blob(member: Member) -> bool:
    return member.shape.kind is Kind.BLOB


def _dump(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _document(
    members: Mapping[str, Member], values: Mapping[str, object], *, with_nulls: bool
) -> dict[str, object]:
    document: dict[str, object] = {}
    for name, member in members.items():
        value = values.get(name)
        if value is not None:
            document[member.wire_name] = _value(member.shape, value, with_nulls=with_nulls)
        elif with_nulls:
            document[member.wire_name] = None
    return document


def _value(shape: Shape, value: object, *, with_nulls: bool) -> object:
    if shape.kind is Kind.STRUCTURE:
        assert isinstance(value, dict), "a structure is a dict"
        unknown = value.keys() - shape.members.keys()
        assert not unknown, f"the model has no {sorted(unknown)}"
        return _document(shape.members, value, with_nulls=with_nulls)
    if isinstance(value, list):
        assert shape.element is not None, "a list has elements"
        return [_value(shape.element, one, with_nulls=with_nulls) for one in value]
    if isinstance(value, dict):
        assert shape.element is not None, "a map has values"
        return {
            key: _value(shape.element, one, with_nulls=with_nulls) for key, one in value.items()
        }
    if isinstance(value, datetime):
        is_text = shape.timestamp_format == "iso8601"
        return iso_text(value) if is_text else value.timestamp()
    if isinstance(value, bytes):
        return write_scalar(shape, value)
    return value
