"""AWS Signature Version 4: what a client signed, and whether its key did.

A signature is in the ``Authorization`` header, or in the query string (*presigned*).  What
counts as signed is rebuilt from the raw request, so nothing that a client could change on
the way is taken from anywhere else; every ``x-amz-`` header there is must be signed.

Source:
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import quote

from ebsim.api.http_messages import Request
from ebsim.errors import InvalidRequest

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
SKEW_SECONDS_MAX = 300
EXPIRES_SECONDS_MAX = 604_800
_TERMINATOR = "aws4_request"
_TIME = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_PART = re.compile(r"\s*([A-Za-z]+)=([^,]+)")


class Fault(StrEnum):
    """Why a request is not believed."""

    MISSING = "missing"
    INCOMPLETE = "incomplete"
    UNKNOWN_KEY = "unknown key"
    MISMATCH = "mismatch"
    EXPIRED = "expired"
    SCOPE = "scope"
    CHUNKED = "chunked"
    TOKEN = "token"


class SignatureRefused(InvalidRequest):
    """A request whose signature is missing, or not one to believe."""

    def __init__(self, fault: Fault, message: str) -> None:
        self.fault = fault
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a request says of who signed it.

    Attributes:
        expires_seconds: How long a presigned one is good for; ``None`` for one in a header.
        signed_headers: Their names in lower case, in the order signed.
    """

    key_id: str
    date: str
    region_name: str
    service: str
    terminator: str
    time: str
    signed_headers: tuple[str, ...]
    value: str
    expires_seconds: int | None = None

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region_name}/{self.service}/{self.terminator}"


def read_signature(request: Request) -> Signature | None:
    """What *request* says of who signed it; ``None`` if it says nothing.

    Raises:
        SignatureRefused: it says it in a way that makes no sense.
    """
    header = request.headers.get("authorization")
    query = dict(request.query)
    if header is not None:
        if not header.startswith(ALGORITHM):
            raise _incomplete(f"Unsupported AWS 'algorithm': expected {ALGORITHM}.")
        parts = dict(_PART.findall(header.removeprefix(ALGORITHM)))
        time = request.headers.get("x-amz-date", "")
        return _signature(
            parts.get("Credential"), parts.get("SignedHeaders"), parts.get("Signature"), time
        )
    if "X-Amz-Signature" not in query and "X-Amz-Credential" not in query:
        return None
    if query.get("X-Amz-Algorithm") != ALGORITHM:
        raise _incomplete(f"X-Amz-Algorithm must be {ALGORITHM}.")
    expires = query.get("X-Amz-Expires", "")
    if not expires.isascii() or not expires.isdecimal() or len(expires) > 9:
        raise _incomplete("X-Amz-Expires must be a number of seconds.")
    if not 1 <= int(expires) <= EXPIRES_SECONDS_MAX:
        raise _incomplete(f"X-Amz-Expires must be from 1 to {EXPIRES_SECONDS_MAX} seconds.")
    return _signature(
        query.get("X-Amz-Credential"),
        query.get("X-Amz-SignedHeaders"),
        query.get("X-Amz-Signature"),
        query.get("X-Amz-Date", ""),
        expires_seconds=int(expires),
    )


def _signature(
    credential: str | None,
    signed_headers: str | None,
    value: str | None,
    time: str,
    *,
    expires_seconds: int | None = None,
) -> Signature:
    if not credential or not signed_headers or not value:
        raise _incomplete(
            "Authorization header requires 'Credential' parameter, 'SignedHeaders' parameter and "
            "'Signature' parameter."
        )
    if _TIME.fullmatch(time) is None:
        raise _incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        )
    words = credential.strip().split("/")
    if len(words) != 5 or not all(words):
        raise _incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. "
            "keyid/date/region/service/term."
        )
    key_id, date, region_name, service, terminator = words
    return Signature(
        key_id=key_id,
        date=date,
        region_name=region_name,
        service=service,
        terminator=terminator,
        time=time,
        signed_headers=tuple(signed_headers.strip().lower().split(";")),
        value=value.strip(),
        expires_seconds=expires_seconds,
    )


def _incomplete(message: str) -> SignatureRefused:
    return SignatureRefused(Fault.INCOMPLETE, message)


def verify(request: Request, signature: Signature, secret: str | None, now: datetime) -> None:
    """Believe that whoever has *secret* signed *request* lately, or refuse it.

    A key that is not known (*secret* is ``None``) takes as long as one that is.

    Raises:
        SignatureRefused: naming what does not fit; the secret decides last.
    """
    if signature.terminator != _TERMINATOR or signature.date != signature.time[:8]:
        raise SignatureRefused(
            Fault.SCOPE, f"Credential should be scoped with a valid terminator: '{_TERMINATOR}'."
        )
    _refuse_unsigned_headers(request, signature)
    expected = sign(request, signature, secret or "")
    is_same = hmac.compare_digest(expected.encode(), signature.value.encode())
    if secret is None:
        raise SignatureRefused(
            Fault.UNKNOWN_KEY, "The security token included in the request is invalid."
        )
    if not is_same:
        raise SignatureRefused(
            Fault.MISMATCH,
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method. Consult the service "
            "documentation for details.",
        )
    _refuse_untimely(signature, now)


def _refuse_unsigned_headers(request: Request, signature: Signature) -> None:
    signed = set(signature.signed_headers)
    needed = {"host"} | {name for name in request.headers if name.startswith("x-amz-")}
    missing = sorted(needed - signed)
    if missing:
        raise SignatureRefused(
            Fault.MISMATCH, f"These headers must be in the signature: {', '.join(missing)}."
        )


def _refuse_untimely(signature: Signature, now: datetime) -> None:
    """Refuse what was signed too long ago, or for a time that has not come."""
    try:
        at = datetime.strptime(signature.time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise _incomplete(f"'{signature.time}' is no time.") from error
    age_seconds = (now - at).total_seconds()
    allowed_seconds = signature.expires_seconds or SKEW_SECONDS_MAX
    now_text = now.strftime("%Y%m%dT%H%M%SZ")
    if age_seconds > allowed_seconds:
        raise SignatureRefused(
            Fault.EXPIRED,
            f"Signature expired: {signature.time} is now earlier than {now_text} - "
            f"{allowed_seconds} seconds.",
        )
    if age_seconds < -SKEW_SECONDS_MAX:
        raise SignatureRefused(
            Fault.EXPIRED,
            f"Signature not yet current: {signature.time} is still later than {now_text} + "
            f"{SKEW_SECONDS_MAX} seconds.",
        )


def sign(request: Request, signature: Signature, secret: str) -> str:
    """The signature that *secret* gives *request*, in hexadecimal."""
    canonical = canonical_request(request, signature)
    to_sign = "\n".join(
        [
            ALGORITHM,
            signature.time,
            signature.scope,
            hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest(),
        ]
    )
    key = f"AWS4{secret}".encode()
    for word in (signature.date, signature.region_name, signature.service, signature.terminator):
        key = hmac.digest(key, word.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def canonical_request(request: Request, signature: Signature) -> str:
    """*request* as it is signed."""
    headers = [
        f"{name}:{' '.join(request.headers.get(name, '').split())}"
        for name in signature.signed_headers
    ]
    return "\n".join(
        [
            request.method,
            # Escaped once more than it already is, as all services but S3 have it.
            quote(request.raw_path or "/", safe="/~"),
            _canonical_query(request.query, is_presigned=signature.expires_seconds is not None),
            *headers,
            "",
            ";".join(signature.signed_headers),
            _payload_hash(request),
        ]
    )


def _canonical_query(query: Sequence[tuple[str, str]], *, is_presigned: bool) -> str:
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in query
        if not (is_presigned and name == "X-Amz-Signature")
    )
    return "&".join(f"{name}={value}" for name, value in pairs)


def _payload_hash(request: Request) -> str:
    """What is signed of the body; the body's own hash unless it is said not to be signed."""
    if request.headers.get("x-amz-content-sha256") == UNSIGNED:
        return UNSIGNED
    return hashlib.sha256(request.body).hexdigest()


def refuse_chunks(headers: Mapping[str, str]) -> None:
    """Refuse a body that a client wrapped in chunks of its own, whoever signed it.

    Raises:
        SignatureRefused: naming the header.
    """
    said = headers.get("x-amz-content-sha256", "")
    if "aws-chunked" in headers.get("content-encoding", "") or said.startswith("STREAMING-"):
        raise SignatureRefused(
            Fault.CHUNKED,
            "A body encoded as aws-chunked is not supported. Send it whole, with its SHA-256 or "
            f"{UNSIGNED} in x-amz-content-sha256.",
        )
