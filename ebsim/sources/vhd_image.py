"""Whether a VHD image (Virtual PC's format) can be read whole, from itself alone.

A VHD ends in a footer of 512 bytes; a growing ("dynamic") one begins with a copy of it.
Without the footer at its end a growing image was cut off.

    offset  size  footer (big-endian)        offset  size  header of a growing image
    0       8     b"conectix"                0       8     b"cxsparse"
    16      8     offset of the header       16      8     offset of the block table
    48      8     size of the disk           28      4     entries of the block table
    60      4     kind                       32      4     size of a block
    64      4     checksum

Source:
    "Virtual Hard Disk Image Format Specification" 1.0, Microsoft
"""

import struct

from ebsim.sources.image_bytes import ImageBytes

FOOTER_MAGIC = b"conectix"
FOOTER_BYTES = 512

_FIXED = 2
_DYNAMIC = 3
_DIFFERENCING = 4
_UNUSED = 0xFFFF_FFFF
_CHECKSUM_AT = 64


def is_footer(raw: bytes) -> bool:
    """Whether *raw* is a whole footer, checksum included: chance does not make one."""
    if len(raw) != FOOTER_BYTES or not raw.startswith(FOOTER_MAGIC):
        return False
    found = int.from_bytes(raw[_CHECKSUM_AT : _CHECKSUM_AT + 4], "big")
    others = sum(raw) - sum(raw[_CHECKSUM_AT : _CHECKSUM_AT + 4])
    return found == ~others & 0xFFFF_FFFF


def check_vhd(image: ImageBytes) -> None:
    """Refuse *image* unless all its data is in it.

    Raises:
        SourceUnusable: damaged, truncated, or holding only the changes to a parent.
    """
    footer = image.read(image.size_bytes - FOOTER_BYTES, FOOTER_BYTES, "the footer")
    if not is_footer(footer):
        raise image.refusal(
            "is truncated or damaged: no VHD footer with a right checksum is at its end",
            "Copy the image again from where it came.",
        )
    (size_bytes,) = struct.unpack_from(">Q", footer, 48)
    (kind,) = struct.unpack_from(">I", footer, 60)
    if kind == _DIFFERENCING:
        raise image.refusal(
            "holds only the changes to a parent image, which an image may not choose",
            "Merge it into its parent.",
        )
    if kind == _FIXED:
        image.require(0, size_bytes + FOOTER_BYTES, "the disk")
    elif kind == _DYNAMIC:
        _check_dynamic(image, footer, size_bytes)
    else:
        raise image.refusal(f"is a VHD of the unknown kind {kind}")


def _check_dynamic(image: ImageBytes, footer: bytes, size_bytes: int) -> None:
    # qemu reads the copy, so the two must say the same.
    copy = image.read(0, FOOTER_BYTES, "the footer's copy")
    if not is_footer(copy) or copy[48:64] != footer[48:64] or copy[16:24] != footer[16:24]:
        raise image.refusal("is damaged: its footer and the copy at its start differ")
    (header_at,) = struct.unpack_from(">Q", footer, 16)
    header = image.read(header_at, 1024, "the header")
    magic, table_at, entries, block_size = struct.unpack_from(">8s8xQ4xII", header)
    if magic != b"cxsparse" or block_size % 512 or not 512 <= block_size <= 1 << 31:
        raise image.refusal(f"is damaged: it has no header at byte {header_at}")
    count = -(-size_bytes // block_size)
    if entries < count:
        raise image.refusal(f"is damaged: {count} blocks are needed and {entries} are listed")
    # A bitmap of its sectors, in whole sectors, lies before each block.
    bitmap_size = -(-(block_size // 512) // (8 * 512)) * 512
    tables = image.read_table(table_at, count, "the block table", code="I", big=True)
    for first, sectors in tables:
        used = max((sector for sector in sectors if sector != _UNUSED), default=0)
        if used * 512 + bitmap_size + block_size <= image.size_bytes:
            continue
        for index, sector in enumerate(sectors, first):
            if sector != _UNUSED:
                image.require_data(
                    sector * 512 + bitmap_size, block_size, index * block_size, size_bytes
                )
