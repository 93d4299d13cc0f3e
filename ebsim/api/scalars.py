"""Single values as text: read from forms, paths, query strings and headers, and written."""

import base64
import binascii
import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from ebsim.api.service_models import Kind, Shape

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{0,40})?([eE][+-]?[0-9]{1,3})?")
_LIMITS = {Kind.INTEGER: 1 << 31, Kind.LONG: 1 << 63}

Scalar = str | int | float | bool | bytes | datetime


def read_scalar(shape: Shape, text: str) -> Scalar:
    """The value that *text* is.

    Raises:
        ValueError: it is none of that type; the message is Amazon's constraint.
    """
    match shape.kind:
        case Kind.INTEGER | Kind.LONG:
            limit = _LIMITS[shape.kind]
            if _INTEGER.fullmatch(text) is None or not -limit <= int(text) < limit:
                raise ValueError(f"Member must be of type {shape.kind}")
            return int(text)
        case Kind.FLOAT | Kind.DOUBLE:
            if _NUMBER.fullmatch(text) is None:
                raise ValueError("Member must be a number")
            return float(text)
        case Kind.BOOLEAN:
            if text.lower() not in {"true", "false"}:
                raise ValueError("Member must be true or false")
            return text.lower() == "true"
        case Kind.TIMESTAMP:
            return read_time(text)
        case Kind.BLOB:
            return read_blob(text)
        case _:
            return text


def read_blob(text: str) -> bytes:
    """The bytes that *text* is in base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("Member must be base64") from error


def read_time(text: str) -> datetime:
    """A time as ISO 8601, as seconds since 1970, or as HTTP writes it."""
    try:
        if _NUMBER.fullmatch(text):
            return datetime.fromtimestamp(float(text), UTC)
        found = parsedate_to_datetime(text) if "," in text else datetime.fromisoformat(text)
        # Aware, and within what can be told in UTC.
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError("Member must be a time") from error


def write_scalar(shape: Shape, value: object, *, default_format: str = "iso8601") -> str:
    """*value* as XML, a header or a query string writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        form = shape.timestamp_format or default_format
        if form == "rfc822":
            return format_datetime(value.astimezone(UTC), usegmt=True)
        if form == "unixTimestamp":
            return str(round(value.timestamp()))
        return iso_text(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def iso_text(value: datetime) -> str:
    """*value* as ``2026-11-22T16:58:03.123Z``."""
    at = value.astimezone(UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
