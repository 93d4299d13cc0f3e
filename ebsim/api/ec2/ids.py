"""Ids of resources as EC2 has them: whole, never shortened as on ebsim's command line."""

from ebsim.api.faults import ApiError
from ebsim.errors import EbsimError, InstanceNotFound, SnapshotNotFound, VolumeNotFound
from ebsim.ids import is_whole_id

_DIGITS = frozenset("0123456789abcdef")


def _is_old_id(text: str, prefix: str) -> bool:
    """Whether it is an id of eight digits: well formed, and none that ebsim ever made."""
    digits = text.removeprefix(f"{prefix}-")
    return text == f"{prefix}-{digits}" and len(digits) == 8 and set(digits) <= _DIGITS


def _check(text: str, prefix: str, malformed: ApiError, missing: EbsimError) -> str:
    if is_whole_id(text, prefix):
        return text
    raise missing if _is_old_id(text, prefix) else malformed


def snapshot_id(text: str) -> str:
    """*text*, a well-formed snapshot id.

    Raises:
        ApiError, SnapshotNotFound: it is none.
    """
    if not text.startswith("snap-"):
        malformed = ApiError(
            "InvalidParameterValue",
            f"Value ({text}) for parameter snapshotId is invalid. Expected: 'snap-...'.",
        )
    else:
        malformed = ApiError(
            "InvalidSnapshotID.Malformed", f"Value ( {text} ) for parameter SNAPSHOT is invalid. "
        )
    return _check(text, "snap", malformed, SnapshotNotFound(text))


def volume_id(text: str) -> str:
    """*text*, a well-formed volume id.

    Raises:
        ApiError, VolumeNotFound: it is none.
    """
    malformed = ApiError(
        "InvalidParameterValue",
        f"Value ({text}) for parameter volumeId is invalid. Expected: 'vol-...'.",
    )
    return _check(text, "vol", malformed, VolumeNotFound(text))


def instance_id(text: str) -> str:
    """*text*, a well-formed instance id.

    Raises:
        ApiError, InstanceNotFound: it is none.
    """
    malformed = ApiError("InvalidInstanceID.Malformed", f'Invalid id: "{text}"')
    return _check(text, "i", malformed, InstanceNotFound(text))
