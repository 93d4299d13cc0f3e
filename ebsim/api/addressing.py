"""Which service and which action a request is for, as AWS clients sign and address them.

A signed request names its service in the credential's scope.  One without a signature is
told by its host (``ebs.us-east-1.amazonaws.com``), its ``X-Amz-Target``, its path, or the
action in its form.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ebsim.api.error_codes import unknown_action
from ebsim.api.faults import ApiError, Malformed
from ebsim.api.form_request import parse_form, read_form
from ebsim.api.http_messages import Request
from ebsim.api.json_request import find_route, parse_json, parse_rest
from ebsim.api.params import Params
from ebsim.api.registry import ACTIONS
from ebsim.api.service_models import Service, Wire, service

FALLBACK = "ec2"
"""Whose words a request that is nobody's is refused in."""

_HOST = re.compile(r"(?:[^.]+\.)?([a-z0-9]+)\.[a-z0-9-]+\.(?:amazonaws\.com|api\.aws)(?:\.cn)?")


class Addressed(NamedTuple):
    """The action that a request is for, and the parts of it that its parameters are in."""

    action: str
    labels: Mapping[str, str]
    fields: Sequence[tuple[str, str]]


def service_named_by(request: Request, signed_for: str | None) -> str | None:
    """The service that *request* is for, one of ``ACTIONS``; ``None`` if it is none of them."""
    if signed_for is not None:
        return signed_for if signed_for in ACTIONS else None
    host = _HOST.fullmatch(request.headers.get("host", "").partition(":")[0])
    if host is not None and host.group(1) in ACTIONS:
        return host.group(1)
    target = request.headers.get("x-amz-target", "").partition(".")[0]
    for name in ACTIONS:
        if target and service(name).target_prefix == target:
            return name
    if request.raw_path not in {"", "/"}:
        return next((name for name in ACTIONS if _has_path(name, request.raw_path)), None)
    try:
        action = dict(_fields(request)).get("Action", "")
    except Malformed:
        return FALLBACK
    forms = [n for n in ACTIONS if service(n).wire in {Wire.EC2, Wire.QUERY}]
    return next((name for name in forms if action in ACTIONS[name]), FALLBACK)


def _has_path(name: str, raw_path: str) -> bool:
    """Whether a REST service has any path that begins like this one."""
    one = service(name)
    first = raw_path.split("/")[1]
    return one.wire is Wire.REST_JSON and any(
        one.http_of(action)[1].split("/")[1] == first for action in ACTIONS[name]
    )


def addressed(of: Service, request: Request) -> Addressed:
    """The action of the service *of* that *request* is for.

    Raises:
        ApiError: it is for none that is served.
        Malformed: it cannot be told.
    """
    served = ACTIONS[of.name]
    match of.wire:
        case Wire.REST_JSON:
            route = find_route(of, list(served), request.method, request.raw_path)
            if route is None:
                raise unknown_action(of, f"{request.method} {request.raw_path}")
            return Addressed(route[0], route[1], request.query)
        case Wire.JSON:
            prefix, _, name = request.headers.get("x-amz-target", "").partition(".")
            if prefix != of.target_prefix or name not in served:
                raise unknown_action(of, name)
            return Addressed(name, {}, ())
    if request.method not in {"GET", "POST"}:
        raise ApiError("InvalidAction", f"{request.method} is no method of this web service.")
    fields = _fields(request)
    names = [value for name, value in fields if name == "Action"]
    if len(names) != 1:
        raise ApiError("MissingAction", "The request is missing an action or a required parameter")
    if names[0] not in served:
        raise unknown_action(of, names[0])
    return Addressed(names[0], {}, fields)


def _fields(request: Request) -> list[tuple[str, str]]:
    fields = list(request.query)
    if request.method == "POST" and request.body:
        try:
            text = request.body.decode("ascii")
        except UnicodeDecodeError as error:
            raise Malformed("the form is not ASCII: escape what is not") from error
        fields += read_form(text)
    return fields


def read_params(of: Service, request: Request, found: Addressed) -> Params:
    """The parameters of the action that *request* was found to be for.

    Raises:
        Malformed, UnknownMember, RequestInvalid: what cannot be read.
    """
    operation = of.operation(found.action)
    match of.wire:
        case Wire.REST_JSON:
            return parse_rest(
                operation,
                labels=found.labels,
                query=found.fields,
                headers=request.headers,
                body=request.body,
            )
        case Wire.JSON:
            return parse_json(operation, request.body)
    return parse_form(of, operation, found.fields)
