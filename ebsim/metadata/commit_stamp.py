"""The commit stamp: which transaction wrote what a meta page leads to.

An LMDB file begins with two meta pages, written in turn; the one with the higher
transaction number counts.  They have no checksum, and a single flipped bit in the newer
number can make the older one count: everything reads well, one transaction ago.  So each
transaction that writes puts its own number into the unnamed table, beside the names of
the others, in a page that every commit writes anyway:

    key     b"commit"
    value   transaction number, u64 LE; XXH3-64 of key + number, u64 BE

A meta page is believed when its number equals the stamp that its own root leads to.  The
state before the newest is still whole in the file (LMDB reuses its pages only from the
next transaction on), so both meta pages can be asked, and a bit flipped in either shows.

This module is pure: it reads pages that are given to it.

Source:
    ``MDB_meta``, ``MDB_page`` and ``MDB_node`` in ``mdb.c`` of LMDB 0.9, 64-bit.
"""

import struct
from collections.abc import Callable
from typing import Final

from xxhash import xxh3_64_digest

STAMP_KEY: Final = b"commit"

_NUMBER: Final = struct.Struct("<Q")
_PAGE_HEADER: Final = struct.Struct("=QHHHH")  # number, pad, flags, lower, upper
_NODE_HEADER: Final = struct.Struct("=HHHH")  # low size, high size, flags, key size
_OFFSET: Final = struct.Struct("=H")
_META_ROOT_OFFSET: Final = 16 + 24 + 48 + 40
_META_NUMBER_OFFSET: Final = 16 + 24 + 48 + 48 + 8
_LEAF_PAGE: Final = 0x02
_NO_ROOT: Final = (1 << 64) - 1


def commit_stamp(transaction_number: int) -> bytes:
    """The value to store under ``STAMP_KEY``."""
    number = _NUMBER.pack(transaction_number)
    return number + xxh3_64_digest(STAMP_KEY + number)


def stamp_complaints(
    metas: bytes, page_size_bytes: int, read_page: Callable[[int], bytes]
) -> list[str]:
    """What is wrong between the two meta pages and the stamps that they lead to.

    Args:
        metas: The two meta pages.
        page_size_bytes: LMDB's page size.
        read_page: Gives a page by its number, short if it is past the file's end.
    """
    complaints = []
    for slot in (0, 1):
        base = slot * page_size_bytes
        (root,) = struct.unpack_from("=Q", metas, base + _META_ROOT_OFFSET)
        (number,) = struct.unpack_from("=Q", metas, base + _META_NUMBER_OFFSET)
        if root == _NO_ROOT:
            if number:
                complaints.append(f"meta page {slot} is of transaction {number} and has no root")
            continue
        stamp = _find_stamp(read_page(root))
        if stamp != commit_stamp(number):
            found = "none" if stamp is None else stamp.hex()
            complaints.append(
                f"meta page {slot} says transaction {number}, the stamp it leads to is {found}"
            )
    return complaints


def _find_stamp(page: bytes) -> bytes | None:
    """The stamp in a leaf page of the unnamed table, ``None`` where there is none."""
    if len(page) < _PAGE_HEADER.size:
        return None
    _, _, flags, lower, _ = _PAGE_HEADER.unpack_from(page)
    if not flags & _LEAF_PAGE or lower > len(page):
        return None
    for pointer in range(_PAGE_HEADER.size, lower - 1, _OFFSET.size):
        (node,) = _OFFSET.unpack_from(page, pointer)
        if node + _NODE_HEADER.size > len(page):
            continue
        size, _, _, key_size = _NODE_HEADER.unpack_from(page, node)
        start = node + _NODE_HEADER.size
        if page[start : start + key_size] == STAMP_KEY:
            return page[start + key_size : start + key_size + size]
    return None
