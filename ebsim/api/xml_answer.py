"""Answers and errors in XML, as the EC2 and query protocols write them."""

import re
from collections.abc import Mapping
from xml.sax.saxutils import escape

from ebsim.api.faults import ApiError
from ebsim.api.params import Answer
from ebsim.api.scalars import write_scalar
from ebsim.api.service_models import Kind, Operation, Service, Shape, Wire

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_answer(service: Service, operation: Operation, answer: Answer, request_id: str) -> bytes:
    """The document that answers *operation*."""
    pieces: list[str] = []
    _members(operation.output, answer, pieces)
    body = "".join(pieces)
    name = f"{operation.name}Response"
    if service.wire is Wire.EC2:
        if not operation.output.members:
            # What botocore does not model and Amazon sends.
            body = "<return>true</return>"
        inside = f"<requestId>{request_id}</requestId>{body}"
    else:
        result = f"<{operation.wrapper}>{body}</{operation.wrapper}>" if operation.wrapper else ""
        inside = (
            f"{result}<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
        )
    return f'{_HEAD}<{name} xmlns="{service.namespace}">{inside}</{name}>'.encode()


def write_error(service: Service, error: ApiError, request_id: str) -> bytes:
    """The document that says what was wrong."""
    code, message = _text(error.code), _text(error.message)
    if service.wire is Wire.EC2:
        inside = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return (
            f"{_HEAD}<Response><Errors>{inside}</Errors>"
            f"<RequestID>{request_id}</RequestID></Response>"
        ).encode()
    kind = "Sender" if error.status < 500 else "Receiver"
    return (
        f'{_HEAD}<ErrorResponse xmlns="{service.namespace}"><Error><Type>{kind}</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error>"
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()


_SPECIAL = re.compile(f"[&<>]|{_NOT_IN_XML.pattern}")


def _text(text: str) -> str:
    """*text* escaped, without the characters that no XML can hold."""
    if _SPECIAL.search(text) is None:
        return text
    return escape(_NOT_IN_XML.sub("\ufffd", text))


def _members(shape: Shape, values: Mapping[str, object], out: list[str]) -> None:
    """Add the members of a structure to *out*; an answer has tens of thousands of pieces."""
    known = shape.members
    written = 0
    for name, member in known.items():
        if name in values:
            written += 1
            value = values[name]
            if value is not None:
                _element(member.shape, member.wire_name, value, out)
    assert written == len(values), f"the model has no {sorted(values.keys() - known.keys())}"


def _element(shape: Shape, name: str, value: object, out: list[str]) -> None:
    kind = shape.kind
    if kind is Kind.STRUCTURE:
        assert isinstance(value, dict), f"{name} is a structure"
        out.append(f"<{name}>")
        _members(shape, value, out)
        out.append(f"</{name}>")
    elif kind is Kind.LIST:
        assert isinstance(value, list), f"{name} is a list"
        _list(shape, name, value, out)
    else:
        assert kind is not Kind.MAP, f"{name}: no answer of ours in XML has a map"
        out.append(f"<{name}>{_text(write_scalar(shape, value))}</{name}>")


def _list(shape: Shape, name: str, values: list[object], out: list[str]) -> None:
    assert shape.element is not None, "a list has elements"
    if not shape.is_flat and not values:
        out.append(f"<{name}/>")
        return
    if not shape.is_flat:
        out.append(f"<{name}>")
    for one in values:
        _element(shape.element, name if shape.is_flat else shape.element_name, one, out)
    if not shape.is_flat:
        out.append(f"</{name}>")
