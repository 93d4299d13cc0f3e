"""Identifiers: their types, their forms, and how new ones are made.

Resource ids look like Amazon's: a prefix, a dash and 17 hexadecimal digits.
"""

import re
from random import Random
from typing import NewType

Digest = NewType("Digest", bytes)
"""BLAKE3-256 of a chunk's decoded bytes: 32 bytes, its address."""

SnapshotId = NewType("SnapshotId", str)
VolumeId = NewType("VolumeId", str)
InstanceId = NewType("InstanceId", str)
AccountId = NewType("AccountId", str)

DIGEST_SIZE = 32

_HEX_DIGITS = 17
_ACCOUNT = re.compile(r"[0-9]{12}")


def new_snapshot_id(random: Random) -> SnapshotId:
    return SnapshotId(f"snap-{random.getrandbits(_HEX_DIGITS * 4):0{_HEX_DIGITS}x}")


def new_volume_id(random: Random) -> VolumeId:
    return VolumeId(f"vol-{random.getrandbits(_HEX_DIGITS * 4):0{_HEX_DIGITS}x}")


def new_instance_id(random: Random) -> InstanceId:
    return InstanceId(f"i-{random.getrandbits(_HEX_DIGITS * 4):0{_HEX_DIGITS}x}")


def is_id_prefix(text: str, prefix: str) -> bool:
    """Whether *text* is ``prefix-`` followed by 1 to 17 hexadecimal digits."""
    return re.fullmatch(rf"{prefix}-[0-9a-f]{{1,{_HEX_DIGITS}}}", text) is not None


def is_whole_id(text: str, prefix: str) -> bool:
    """Whether *text* is ``prefix-`` followed by exactly 17 hexadecimal digits."""
    return re.fullmatch(rf"{prefix}-[0-9a-f]{{{_HEX_DIGITS}}}", text) is not None


def is_account_id(text: str) -> bool:
    return _ACCOUNT.fullmatch(text) is not None
