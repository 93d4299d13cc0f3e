"""Tokens of the EBS direct APIs: what was listed, proved by the region's key.

    offset  size  field
    0       3     kind       02 53 01 block, 02 53 02 page of blocks, 02 53 03 page of changes
    3       9     first      the snapshot's id, or that of the first of a pair
    12      9     second     of a pair, else zeros
    21      5     block index, u40 BE
    26      5     expiry     whole seconds since 1970, u40 BE
    31      8     nonce      of the list call: no two calls give the same tokens
    39      32    keyed BLAKE3 of bytes 0 to 38

in URL-safe base64 without padding: 95 characters that begin with ``AlMB``, ``AlMC`` or
``AlMD``.  A token says nothing of an account: who may read the snapshot may use it.
Pure: bytes in, text out.
"""

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from enum import Enum
from hmac import compare_digest
from typing import NamedTuple

from blake3 import blake3

from ebsim.ids import SnapshotId

KEY_SIZE = 32
NONCE_SIZE = 8

_BODY = struct.Struct(">3s9s9s5s5s8s")
_PROOF_SIZE = 32
_TOKEN_LENGTH = 95
_NO_ID = bytes(9)
assert (_BODY.size + _PROOF_SIZE) * 4 == _TOKEN_LENGTH * 3 - 1, "as the table above has it"


class TokenKind(Enum):
    """What a token is good for; the value is its first bytes."""

    BLOCK = b"\x02S\x01"
    BLOCKS_PAGE = b"\x02S\x02"
    CHANGES_PAGE = b"\x02S\x03"


class Scope(NamedTuple):
    """What a token is bound to: one snapshot, or a pair in its order."""

    kind: TokenKind
    first: SnapshotId
    second: SnapshotId | None = None

    def encoded(self) -> tuple[bytes, bytes]:
        second = _NO_ID if self.second is None else _id_bytes(self.second)
        return _id_bytes(self.first), second


def token_maker(
    key: bytes, scope: Scope, expiry_seconds: int, nonce: bytes
) -> Callable[[int], str]:
    """What makes tokens of one list call, by block index."""
    first, second = scope.encoded()
    head = scope.kind.value + first + second
    tail = expiry_seconds.to_bytes(5, "big") + nonce

    def make(block_index: int) -> str:
        body = head + block_index.to_bytes(5, "big") + tail
        # 71 bytes: one short of a multiple of three, so there is one sign of padding.
        return urlsafe_b64encode(body + blake3(body, key=key).digest())[:-1].decode()

    return make


def open_token(key: bytes, scope: Scope, token: str, now_seconds: int) -> int | None:
    """The block index in *token*; ``None`` if it is not of this scope, forged, or over."""
    if len(token) != _TOKEN_LENGTH or not token.isascii():
        return None
    try:
        raw = urlsafe_b64decode(token + "=")
    except ValueError:
        return None
    # Only what was given out: base64 has several spellings of the last byte, and skips
    # what is none of its signs.
    if urlsafe_b64encode(raw)[:-1].decode() != token:
        return None
    body, proof = raw[: _BODY.size], raw[_BODY.size :]
    if not compare_digest(blake3(body, key=key).digest(), proof):
        return None
    kind, first, second, block_index, expiry, _ = _BODY.unpack(body)
    if kind != scope.kind.value or (first, second) != scope.encoded():
        return None
    if int.from_bytes(expiry, "big") <= now_seconds:
        return None
    return int.from_bytes(block_index, "big")


def _id_bytes(snapshot_id: SnapshotId) -> bytes:
    return int(snapshot_id.removeprefix("snap-"), 16).to_bytes(9, "big")
