"""The way of a request: whose it is, what it wants, whether it may, and what is answered.

    service and action   addressing.py     who asks      signature.py, identity.py
    parameters           form_request.py, json_request.py, validation.py
    what is not heeded   refused by name   DryRun        answered here
    the action itself    ec2/, sts/ ...    the answer    xml_answer.py, json_answer.py

Everything here is synchronous and runs in a thread of the server's pool.
"""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ebsim.api.addressing import FALLBACK, Addressed, addressed, read_params, service_named_by
from ebsim.api.call import Call, LookAfter
from ebsim.api.chaos import Chaos
from ebsim.api.error_codes import (
    api_error_of,
    dry_run_succeeds,
    internal_error,
    unsupported_parameter,
)
from ebsim.api.faults import ApiError, RequestInvalid
from ebsim.api.http_messages import Request, Response
from ebsim.api.identity import (
    Auth,
    FindKey,
    Identity,
    believed_identity,
    claimed_identity,
    refusal_of,
)
from ebsim.api.json_answer import write_answer as write_json_answer
from ebsim.api.json_answer import write_error as write_json_error
from ebsim.api.metrics import Metrics
from ebsim.api.regions import Regions
from ebsim.api.registry import ACTIONS
from ebsim.api.service_models import Service, Wire, service
from ebsim.api.signature import (
    Fault,
    Signature,
    SignatureRefused,
    read_signature,
    refuse_chunks,
)
from ebsim.api.throttle import Throttle
from ebsim.api.validation import validate
from ebsim.api.work import Work
from ebsim.api.xml_answer import write_answer as write_xml_answer
from ebsim.api.xml_answer import write_error as write_xml_error
from ebsim.clock import Clock
from ebsim.errors import EbsimError
from ebsim.ids import AccountId


@dataclass(frozen=True, slots=True)
class Desk:
    """What requests are answered with.

    Attributes:
        default_region, default_account: Whose a request is that does not say.
        tell_bug: Told of a failure of ebsim itself, with its traceback.
        import_folder: Whose files may be imported; ``None`` for none.
        throttle: Refuses calls that come too fast; ``None`` refuses none.
        chaos: Makes calls slow and lets some fail, on purpose.
        keeper: Serves volumes and loads them; ``None`` if this process does not.
    """

    regions: Regions
    work: Work
    find_key: FindKey
    auth: Auth
    clock: Clock
    random: Random
    metrics: Metrics
    default_region: str
    default_account: AccountId
    tell_bug: Callable[[str], None]
    throttle: Throttle | None = None
    import_folder: Path | None = None
    chaos: Chaos | None = None
    keeper: LookAfter | None = None


@dataclass(slots=True)
class _Seen:
    """What is known so far of a request: in whose words to refuse it, and what to count it as."""

    service: Service
    action: str = "-"


def answer(desk: Desk, request: Request) -> Response:
    """The answer to *request*, whatever it is: nothing is raised."""
    request_id = _new_request_id(desk.random)
    seen = _Seen(service(FALLBACK))
    began = time.monotonic()
    try:
        response = _answered(desk, request, seen, request_id)
    except SignatureRefused as error:
        response = _refused(seen.service, refusal_of(seen.service, error), request_id)
    except EbsimError as error:
        is_of_model = isinstance(error, RequestInvalid)
        told = api_error_of(seen.service, error)
        response = _refused(seen.service, told, request_id, is_of_model=is_of_model)
    except Exception:  # noqa: BLE001 (a bug in one request must not end the server)
        where = f"{seen.service.name}:{seen.action} {request_id}"
        desk.tell_bug(f"{where}: {traceback.format_exc()}")
        response = _refused(seen.service, internal_error(seen.service), request_id)
    seconds = time.monotonic() - began
    desk.metrics.note_answer(seen.service.name, seen.action, response.status, seconds)
    return response


def _answered(desk: Desk, request: Request, seen: _Seen, request_id: str) -> Response:
    signature, refused = _read_signature(request)
    name = service_named_by(request, signature.service if signature else None)
    if name is None:
        raise _nobodys(request, signature)
    seen.service = service(name)
    if refused is not None and desk.auth is Auth.SIGV4:
        raise refused
    refuse_chunks(request.headers)
    identity = _identity(desk, request, signature)
    found = addressed(seen.service, request)
    seen.action = found.action
    return _performed(
        desk, request, found, (signature, identity), of=seen.service, request_id=request_id
    )


def _read_signature(request: Request) -> tuple[Signature | None, SignatureRefused | None]:
    """The signature, or what is wrong with it: that is told in the service's own words."""
    try:
        return read_signature(request), None
    except SignatureRefused as error:
        return None, error


def _new_request_id(random: Random) -> str:
    digits = f"{random.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _nobodys(request: Request, signature: Signature | None) -> ApiError:
    """What is said to a request for a service that is not served."""
    if signature is not None:
        return ApiError(
            "InvalidAction",
            f"The service {signature.service} is not served here: {', '.join(ACTIONS)} are.",
        )
    return ApiError("InvalidAction", f"Nothing is served at {request.raw_path}.", status=404)


def _identity(desk: Desk, request: Request, signature: Signature | None) -> Identity:
    if desk.auth is Auth.NONE:
        return claimed_identity(signature, desk.find_key, desk.default_account)
    identity = believed_identity(request, signature, desk.find_key, desk.clock)
    assert signature is not None, "nobody is believed without one"
    if not desk.regions.exists(signature.region_name):
        raise SignatureRefused(
            Fault.SCOPE,
            f"Credential should be scoped to a valid region, not '{signature.region_name}'.",
        )
    return identity


def _performed(
    desk: Desk,
    request: Request,
    found: Addressed,
    caller: tuple[Signature | None, Identity],
    *,
    of: Service,
    request_id: str,
) -> Response:
    """Carry out the action, and write what it answers."""
    signature, identity = caller
    one = ACTIONS[of.name][found.action]
    operation = of.operation(one.name)
    params = read_params(of, request, found)
    validate(operation, params)
    unsupported = one.unsupported(params)
    if unsupported is not None:
        raise unsupported_parameter(of, unsupported)
    if params.pop("DryRun", False) and of.wire is Wire.EC2:
        raise dry_run_succeeds()
    call = Call(
        service=of.name,
        action=one.name,
        account_id=identity.account_id,
        key_id=identity.key_id,
        region_name=signature.region_name if signature else desk.default_region,
        request_id=request_id,
        clock=desk.clock,
        regions=desk.regions,
        work=desk.work,
        is_reading=one.is_reading,
        import_folder=desk.import_folder,
        keeper=desk.keeper,
        limits=desk.chaos.limits if desk.chaos is not None else None,
    )
    if desk.throttle is not None:
        desk.throttle.count(call, params)
    if desk.chaos is not None:
        desk.chaos.before(call)
    result = one.perform(call, params)
    if desk.chaos is not None:
        desk.chaos.after(call)
    if of.wire in {Wire.EC2, Wire.QUERY}:
        body = write_xml_answer(of, operation, result, request_id)
        return Response(200, [("Content-Type", "text/xml;charset=UTF-8"), _id(request_id)], body)
    written = write_json_answer(of, operation, result)
    return Response(written.status, [*written.headers, _id(request_id)], written.body)


def _refused(
    of: Service, error: ApiError, request_id: str, *, is_of_model: bool = False
) -> Response:
    if of.wire in {Wire.EC2, Wire.QUERY}:
        body = write_xml_error(of, error, request_id)
        headers = [("Content-Type", "text/xml;charset=UTF-8"), _id(request_id)]
        return Response(error.status, headers, body)
    written = write_json_error(of, error, is_of_model=is_of_model)
    return Response(written.status, [*written.headers, _id(request_id)], written.body)


def _id(request_id: str) -> tuple[str, str]:
    return "x-amzn-RequestId", request_id
