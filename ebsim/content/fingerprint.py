"""Fingerprints: a fast guess whether a block is what it was in the parent snapshot.

A fingerprint is XXH3-128 of a block, seeded per store.  It is never an address and never
leaves the metadata.  XXH3 does not resist somebody who constructs collisions on purpose;
the seed is secret to the store and a sample of the matches is checked by digest, see
``decisions/0001-hashes.md``.
"""

from functools import cache

from xxhash import xxh3_64_digest, xxh3_128_digest

FINGERPRINT_SIZE = 16
CHECKSUM_SIZE = 8

Buffer = bytes | bytearray | memoryview


def fingerprint(block: Buffer, seed: int) -> bytes:
    """The 16-byte fingerprint of *block*.  Releases the GIL; about 11 µs for 512 KiB."""
    return xxh3_128_digest(block, seed)


def checksum(data: Buffer) -> bytes:
    """XXH3-64 of *data*: finds accidental damage, proves nothing else."""
    return xxh3_64_digest(data)


@cache
def _zeros(size_bytes: int) -> bytearray:
    return bytearray(size_bytes)


@cache
def zero_fingerprint(size_bytes: int, seed: int) -> bytes:
    """The fingerprint of *size_bytes* zeros."""
    return xxh3_128_digest(_zeros(size_bytes), seed)


def is_zeros(block: Buffer) -> bool:
    """Whether *block* is nothing but zeros.

    Called only where the fingerprint says so already, to be certain of it: a block that
    merely collides with the fingerprint of zeros must not be dropped.
    """
    # bytearray compares with any buffer by memcmp; a memoryview does it item by item.
    return _zeros(len(block)) == block
