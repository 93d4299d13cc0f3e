"""Keys and their aliases: they are named, and nothing is encrypted by them."""

from bisect import bisect_right
from collections.abc import Mapping

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.catalog.kms_key import Alias, KmsKey, alias_arn, key_arn
from ebsim.clock import to_datetime
from ebsim.engine.kms_keys import create_alias, create_key, list_aliases, show_key
from ebsim.errors import UnsupportedParameter

_PAGE_SIZE = 50
_LIMIT_MAX = 100

_ONLY: Mapping[str, object] = {
    "KeyUsage": "ENCRYPT_DECRYPT",
    "KeySpec": "SYMMETRIC_DEFAULT",
    "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
    "Origin": "AWS_KMS",
    "MultiRegion": False,
}
"""What EBS can use: a key of another kind would be good for nothing."""


def create(call: Call, params: Params) -> Answer:
    """Make a key of the one kind that EBS takes."""
    for name, wanted in _ONLY.items():
        if params.get(name, wanted) != wanted:
            raise UnsupportedParameter(
                f"{name} {params[name]} is not supported by ebsim: only {wanted} is. "
                "Nothing was changed."
            )
    key = create_key(call.region, params.get("Description", ""))
    return {"KeyMetadata": _metadata(call, key)}


def describe(call: Call, params: Params) -> Answer:
    """A key by its id, ARN, alias or alias's ARN."""
    return {"KeyMetadata": _metadata(call, show_key(call.region, params["KeyId"]))}


def make_alias(call: Call, params: Params) -> Answer:
    """Have a name lead to a key."""
    create_alias(call.region, params["AliasName"], params["TargetKeyId"])
    return {}


def aliases(call: Call, params: Params) -> Answer:
    """Aliases by name, a page at a time; a marker is the last one's name."""
    limit = params.get("Limit", _PAGE_SIZE)
    if limit > _LIMIT_MAX:
        raise ApiError(
            "ValidationException",
            f"1 validation error detected: Value '{limit}' at 'limit' failed to satisfy "
            f"constraint: Member must have value less than or equal to {_LIMIT_MAX}",
        )
    rows = list_aliases(call.region, params.get("KeyId"))
    marker = params.get("Marker")
    if marker is not None and not marker.startswith("alias/"):
        raise ApiError("InvalidMarkerException", "The marker is none that ListAliases gave.")
    start = 0 if marker is None else bisect_right([alias.name for alias, _ in rows], marker)
    page = rows[start : start + limit]
    is_truncated = start + limit < len(rows)
    return {
        "Aliases": [_alias_row(call, alias, key) for alias, key in page],
        "NextMarker": page[-1][0].name if is_truncated else None,
        "Truncated": is_truncated,
    }


def _metadata(call: Call, key: KmsKey) -> Answer:
    made = key.create_time_ns
    return {
        "AWSAccountId": key.owner_id,
        "KeyId": key.key_id,
        "Arn": key_arn(call.region_name, key.owner_id, key.key_id),
        "CreationDate": to_datetime(made) if made is not None else None,
        "Enabled": True,
        "Description": key.description,
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": "Enabled",
        "Origin": "AWS_KMS",
        "KeyManager": "AWS" if key.is_amazons else "CUSTOMER",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "MultiRegion": False,
    }


def _alias_row(call: Call, alias: Alias, key: KmsKey) -> Answer:
    made = to_datetime(alias.create_time_ns) if alias.create_time_ns is not None else None
    return {
        "AliasName": alias.name,
        "AliasArn": alias_arn(call.region_name, key.owner_id, alias.name),
        "TargetKeyId": key.key_id,
        "CreationDate": made,
        "LastUpdatedDate": made,
    }


ACTIONS = (
    action("CreateKey", create, "Description", *_ONLY),
    action("DescribeKey", describe, "KeyId"),
    action("CreateAlias", make_alias, "AliasName", "TargetKeyId"),
    action("ListAliases", aliases, "KeyId", "Limit", "Marker"),
)
