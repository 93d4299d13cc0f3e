"""Whether a qcow2 image can be read whole, from itself alone.

    offset  size  field                      offset  size  field
    0       4     magic  b"QFI\\xfb"          36      4     entries of the L1 table
    4       4     version  2 or 3            40      8     offset of the L1 table
    8       8     backing file's name: offset 72     8     incompatible features (version 3)
    16      4     and length                 100     4     length of the header (version 3)
    20      4     bits of a cluster's size
    24      8     size of the disk
    32      4     encryption

An L1 entry points at an L2 table of one cluster, an L2 entry at a cluster of data.

Source:
    https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.txt
"""

import struct
from array import array
from typing import NamedTuple

from ebsim.sources.image_bytes import ImageBytes

_HEADER = struct.Struct(">4sIQIIQIIQ")
_HEADER_V2_BYTES = 72

_DIRTY = 1 << 0
_CORRUPT = 1 << 1
_EXTERNAL_DATA = 1 << 2
_EXTENDED_L2 = 1 << 4
# These, and bit 3, which names the way clusters are compressed and is qemu's business.
_KNOWN_FEATURES = (1 << 5) - 1

_EXTENSION_END = 0
_EXTENSION_BACKING_FORMAT = 0xE2792ACA
_EXTENSION_EXTERNAL_DATA = 0x44415441

_OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
_COMPRESSED = 1 << 62
_NAME_BYTES_MAX = 1023
_L1_ENTRIES_MAX = (32 << 20) // 8


class BackingFile(NamedTuple):
    """The file that an image takes what it lacks from."""

    name: str
    format: str


class _Header(NamedTuple):
    version: int
    backing_offset: int
    backing_size: int
    cluster_bits: int
    size_bytes: int
    encryption: int
    l1_entries: int
    l1_offset: int
    features: int
    header_bytes: int


def check_qcow2(image: ImageBytes) -> BackingFile | None:
    """Refuse *image* unless all its data is in it, but for the backing file returned.

    Raises:
        SourceUnusable: damaged, truncated, encrypted, not closed cleanly, or with its
            data in another file.
    """
    header = _read_header(image)
    extensions = _read_extensions(image, header)
    if header.features & _EXTERNAL_DATA or _EXTENSION_EXTERNAL_DATA in extensions:
        name = extensions.get(_EXTENSION_EXTERNAL_DATA, b"").decode(errors="backslashreplace")
        raise image.refusal(
            f"keeps its data in another file, {name!r}, which an image may not choose",
            "Make it whole with 'qemu-img convert -O qcow2'.",
        )
    _require_data_inside(image, header)
    return _backing_file(image, header, extensions)


def _read_header(image: ImageBytes) -> _Header:
    raw = image.read(0, _HEADER_V2_BYTES, "the header")
    _, version, *fields = _HEADER.unpack_from(raw)
    features, header_bytes = 0, _HEADER_V2_BYTES
    if version not in (2, 3):
        raise image.refusal(f"is qcow version {version}; versions 2 and 3 can be read")
    if version == 3:
        rest = image.read(_HEADER_V2_BYTES, 32, "the header")
        features = int.from_bytes(rest[:8], "big")
        header_bytes = int.from_bytes(rest[28:], "big")
    header = _Header._make([version, *fields, features, header_bytes])
    if header.encryption:
        raise image.refusal("is encrypted", "Decrypt it with 'qemu-img convert'.")
    if features & _CORRUPT:
        raise image.refusal("is marked as corrupt", "Repair it with 'qemu-img check -r all'.")
    if features & _DIRTY:
        raise image.refusal(
            "was not closed cleanly, or is in use",
            "Shut its machine down, or repair it with 'qemu-img check -r all'.",
        )
    if features & ~_KNOWN_FEATURES:
        raise image.refusal(f"needs features that are not known here ({features:#x})")
    if not 9 <= header.cluster_bits <= 21:
        raise image.refusal(f"claims clusters of 2^{header.cluster_bits} bytes")
    if header.size_bytes == 0:
        raise image.refusal("holds a disk of no size")
    return header


def _read_extensions(image: ImageBytes, header: _Header) -> dict[int, bytes]:
    """The header extensions, which lie between the header and the first cluster's end."""
    found: dict[int, bytes] = {}
    cluster_stop = 1 << header.cluster_bits
    position = header.header_bytes
    if position % 8 or not _HEADER_V2_BYTES <= position <= cluster_stop:
        raise image.refusal(f"claims a header of {position} bytes")
    while position + 8 <= min(cluster_stop, header.backing_offset or cluster_stop):
        kind, size_bytes = struct.unpack(">II", image.read(position, 8, "a header extension"))
        if kind == _EXTENSION_END:
            break
        if size_bytes > cluster_stop - position - 8:
            raise image.refusal(f"has a header extension of {size_bytes} bytes")
        found[kind] = image.read(position + 8, size_bytes, "a header extension")
        position += 8 + (size_bytes + 7) // 8 * 8
    return found


def _backing_file(
    image: ImageBytes, header: _Header, extensions: dict[int, bytes]
) -> BackingFile | None:
    if header.backing_offset == 0:
        return None
    if header.backing_size > _NAME_BYTES_MAX:
        raise image.refusal(f"names a backing file in {header.backing_size} bytes")
    name = image.read(header.backing_offset, header.backing_size, "the backing file's name")
    return BackingFile(
        name.decode(errors="surrogateescape"),
        extensions.get(_EXTENSION_BACKING_FORMAT, b"").decode(errors="backslashreplace"),
    )


def _require_data_inside(image: ImageBytes, header: _Header) -> None:
    cluster_size = 1 << header.cluster_bits
    entry_size = 16 if header.features & _EXTENDED_L2 else 8
    clusters_per_table = cluster_size // entry_size
    needed = -(-header.size_bytes // (cluster_size * clusters_per_table))
    if not needed <= header.l1_entries <= _L1_ENTRIES_MAX:
        raise image.refusal(f"has {header.l1_entries} L1 entries and needs {needed}")
    read_bytes = 0
    tables = image.read_table(header.l1_offset, needed, "the L1 table", code="Q", big=True)
    for first, entries in tables:
        for index, entry in enumerate(entries, first):
            offset = entry & _OFFSET_MASK
            if offset:
                # One table named over and over would keep its reader for hours.
                read_bytes += cluster_size
                if read_bytes > image.size_bytes:
                    raise image.refusal("is damaged: its L2 tables take more than the file has")
                disk_offset = index * clusters_per_table * cluster_size
                _require_clusters_inside(image, header, offset, disk_offset)


def _require_clusters_inside(
    image: ImageBytes, header: _Header, table_offset: int, disk_offset: int
) -> None:
    cluster_size = 1 << header.cluster_bits
    table = image.read(table_offset, cluster_size, "an L2 table")
    # One pass at the speed of C over the whole table; the entries are looked at one by
    # one only where something is compressed or lies past the end.
    mask = int.from_bytes(
        (_OFFSET_MASK | _COMPRESSED).to_bytes(8, "big") * (len(table) // 8), "big"
    )
    masked = (int.from_bytes(table, "big") & mask).to_bytes(len(table), "big")
    is_extended = bool(header.features & _EXTENDED_L2)
    entries = array("Q", masked)
    entries.byteswap()
    if is_extended:
        entries = entries[::2]
    if max(entries) + cluster_size <= image.size_bytes:
        return
    for index in range(len(entries)):
        at = index * (16 if is_extended else 8)
        entry = int.from_bytes(table[at : at + 8], "big")
        stop = cluster_size
        if is_extended:
            # The low half of the bitmap says which 32nds of the cluster are there.
            allocated = int.from_bytes(table[at + 12 : at + 16], "big")
            stop = allocated.bit_length() * cluster_size // 32
        _require_cluster_inside(image, header, entry, stop, disk_offset + index * cluster_size)


def _require_cluster_inside(
    image: ImageBytes, header: _Header, entry: int, size_bytes: int, disk_offset: int
) -> None:
    if entry & _COMPRESSED:
        # The descriptor: the host offset in its low bits, then the sectors after the first.
        offset_bits = 62 - (header.cluster_bits - 8)
        offset = entry & ((1 << offset_bits) - 1)
        more_sectors = (entry & (_COMPRESSED - 1)) >> offset_bits
        stop = (offset // 512 + 1 + more_sectors) * 512
        # The last sector need not be full at the end of the file.
        image.require(
            offset, max(1, stop - 511 - offset), f"the data of the disk's byte {disk_offset}"
        )
        return
    offset = entry & _OFFSET_MASK
    if offset:
        image.require_data(offset, size_bytes, disk_offset, header.size_bytes)
