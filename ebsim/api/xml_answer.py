"""Answers and errors in XML, as the EC2 and query protocols write them."""

import re
from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape

from ebsim.api.faults import ApiError
from ebsim.api.params import Answer
from ebsim.api.scalars import write_scalar
from ebsim.api.service_models import Kind, Operation, Service, Shape, Wire

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_answer(service: Service, operation: Operation, answer: Answer, request_id: str) -> bytes:
    """The document that answers *operation*."""
    body = "".join(_members(operation.output, answer))
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


def _text(text: str) -> str:
    """*text* escaped, without the characters that no XML can hold."""
    return escape(_NOT_IN_XML.sub("\ufffd", text))


def _members(shape: Shape, values: Mapping[str, object]) -> Iterator[str]:
    unknown = values.keys() - shape.members.keys()
    assert not unknown, f"the model has no {sorted(unknown)}"
    for name, member in shape.members.items():
        value = values.get(name)
        if value is not None:
            yield from _element(member.shape, member.wire_name, value)


def _element(shape: Shape, name: str, value: object) -> Iterator[str]:
    match shape.kind:
        case Kind.STRUCTURE:
            assert isinstance(value, dict), f"{name} is a structure"
            yield f"<{name}>"
            yield from _members(shape, value)
            yield f"</{name}>"
        case Kind.LIST:
            assert isinstance(value, list), f"{name} is a list"
            assert shape.element is not None, "a list has elements"
            if shape.is_flat:
                for one in value:
                    yield from _element(shape.element, name, one)
            elif value:
                yield f"<{name}>"
                for one in value:
                    yield from _element(shape.element, shape.element_name, one)
                yield f"</{name}>"
            else:
                yield f"<{name}/>"
        case Kind.MAP:
            raise AssertionError(f"{name}: no answer of ours in XML has a map")
        case _:
            yield f"<{name}>{_text(write_scalar(shape, value))}</{name}>"
