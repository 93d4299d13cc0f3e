"""Who makes a request: by its signature, or, without verification, by what it claims.

Amazon's services refuse a bad signature in three families of words; ``_REFUSALS`` has them.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

from ebsim.api.faults import ApiError
from ebsim.api.http_messages import Request
from ebsim.api.service_models import Service, Wire
from ebsim.api.signature import Fault, Signature, SignatureRefused, verify
from ebsim.clock import Clock, to_datetime
from ebsim.engine.access_keys import AccessKey
from ebsim.ids import AccountId, is_account_id


class Auth(StrEnum):
    """How strictly a server asks who somebody is."""

    SIGV4 = "sigv4"
    NONE = "none"


FindKey = Callable[[str], AccessKey | None]


class Identity(NamedTuple):
    """Who acts."""

    account_id: AccountId
    key_id: str


def believed_identity(
    request: Request, signature: Signature | None, find_key: FindKey, clock: Clock
) -> Identity:
    """Who signed *request*.

    Raises:
        SignatureRefused: nobody whose key is known, or not well, or not lately.
    """
    if signature is None:
        raise SignatureRefused(Fault.MISSING, "Request is missing Authentication Token")
    if "x-amz-security-token" in request.headers or "X-Amz-Security-Token" in dict(request.query):
        # Keys of ebsim are permanent ones: a session's token can only be somebody else's.
        raise SignatureRefused(
            Fault.TOKEN, "The security token included in the request is invalid."
        )
    key = find_key(signature.key_id)
    now = to_datetime(clock.now_ns())
    verify(request, signature, key.secret if key is not None else None, now)
    assert key is not None, "verify refuses a key that is not known"
    return Identity(key.account_id, key.key_id)


def claimed_identity(
    signature: Signature | None, find_key: FindKey, default: AccountId
) -> Identity:
    """Who *signature* says it is, without proof: the key's account, or the one that it names."""
    if signature is None:
        return Identity(default, "")
    if is_account_id(signature.key_id):
        return Identity(AccountId(signature.key_id), signature.key_id)
    key = find_key(signature.key_id)
    return Identity(key.account_id if key is not None else default, signature.key_id)


class _Refusal(NamedTuple):
    code: str
    status: int


_EC2_WORDS = "AWS was not able to validate the provided access credentials"
_REFUSALS: Mapping[Wire, Mapping[Fault, _Refusal]] = {
    Wire.EC2: {
        Fault.MISSING: _Refusal("MissingAuthenticationToken", 403),
        Fault.INCOMPLETE: _Refusal("IncompleteSignature", 400),
        Fault.UNKNOWN_KEY: _Refusal("AuthFailure", 401),
        Fault.TOKEN: _Refusal("AuthFailure", 401),
        Fault.MISMATCH: _Refusal("AuthFailure", 401),
        Fault.SCOPE: _Refusal("AuthFailure", 401),
        Fault.EXPIRED: _Refusal("RequestExpired", 400),
        Fault.CHUNKED: _Refusal("UnsupportedOperation", 400),
    },
    Wire.QUERY: {
        Fault.MISSING: _Refusal("MissingAuthenticationToken", 403),
        Fault.INCOMPLETE: _Refusal("IncompleteSignature", 400),
        Fault.UNKNOWN_KEY: _Refusal("InvalidClientTokenId", 403),
        Fault.TOKEN: _Refusal("InvalidClientTokenId", 403),
        Fault.MISMATCH: _Refusal("SignatureDoesNotMatch", 403),
        Fault.SCOPE: _Refusal("SignatureDoesNotMatch", 403),
        Fault.EXPIRED: _Refusal("SignatureDoesNotMatch", 403),
        Fault.CHUNKED: _Refusal("UnsupportedOperation", 400),
    },
    Wire.REST_JSON: {
        Fault.MISSING: _Refusal("MissingAuthenticationTokenException", 403),
        Fault.INCOMPLETE: _Refusal("IncompleteSignatureException", 403),
        Fault.UNKNOWN_KEY: _Refusal("UnrecognizedClientException", 403),
        Fault.TOKEN: _Refusal("UnrecognizedClientException", 403),
        Fault.MISMATCH: _Refusal("InvalidSignatureException", 403),
        Fault.SCOPE: _Refusal("InvalidSignatureException", 403),
        Fault.EXPIRED: _Refusal("InvalidSignatureException", 403),
        Fault.CHUNKED: _Refusal("ValidationException", 400),
    },
}


def refusal_of(service: Service, error: SignatureRefused) -> ApiError:
    """What a client of *service* is told."""
    wire = Wire.REST_JSON if service.wire is Wire.JSON else service.wire
    code, status = _REFUSALS[wire][error.fault]
    message = _EC2_WORDS if code == "AuthFailure" else str(error)
    if service.wire is Wire.JSON and status == 403:
        status = 400
    return ApiError(code, message, status=status)
