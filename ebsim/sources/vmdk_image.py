"""Whether a VMDK image can be read whole, from itself alone.

Only the kinds that are one file are taken: ``monolithicSparse`` and ``streamOptimized``.
The others are a text that names the files with the data, which an image may not choose.

    offset  size  field (little-endian)      offset  size  field
    0       4     magic  b"KDMV"             44      4     entries of a grain table
    8       4     flags                      56      8     grain directory (sector)
    12      8     capacity (sectors)
    20      8     grain's size (sectors)
    28      8     descriptor (sector)
    36      8     and its size (sectors)

Source:
    "Virtual Disk Format 5.0", VMware; https://gitlab.com/qemu-project/qemu block/vmdk.c
"""

import re
import struct
from typing import NamedTuple

from ebsim.sources.image_bytes import ImageBytes

SPARSE_MAGIC = b"KDMV"
TEXT_MAGIC = b"# Disk DescriptorFile"
OLD_SPARSE_MAGIC = b"COWD"

_SECTOR = 512
_HEADER = struct.Struct("<4sIIQQQQIQQ")
_DIRECTORY_AT_END = (1 << 64) - 1
_FLAG_COMPRESSED = 1 << 16
_DESCRIPTOR_SECTORS_MAX = 2048
_GRAIN_SECTORS_MAX = 1 << 16
_SINGLE_FILE_KINDS = ("monolithicSparse", "streamOptimized")
_NO_PARENT = "ffffffff"
# An entry of 1 marks a grain of zeros, and points nowhere.
_ZERO_GRAIN = 1


class _Header(NamedTuple):
    flags: int
    capacity: int
    grain: int
    descriptor: int
    descriptor_sectors: int
    table_entries: int
    directory: int

    @property
    def size_bytes(self) -> int:
        return self.capacity * _SECTOR


def check_vmdk(image: ImageBytes) -> None:
    """Refuse *image* unless all its data is in it.

    Raises:
        SourceUnusable: damaged, truncated, or names other files.
    """
    magic = image.read(0, 4, "the header")
    if magic != SPARSE_MAGIC:
        raise image.refusal(
            "is a VMDK whose data lies in other files, which an image may not choose",
            "Make it one file with 'qemu-img convert -O vmdk'.",
        )
    header = _read_header(image, 0)
    if header.capacity == 0:
        raise image.refusal(
            "is a VMDK without a size of its own: its text names other files, which an image "
            "may not choose"
        )
    _check_descriptor(image, header)
    if header.directory == _DIRECTORY_AT_END:
        # A stream that was written in one go repeats its header after the data: the file
        # ends in a marker, the header, and an end-of-stream marker of a sector each.
        at = image.size_bytes - 2 * _SECTOR
        if image.read(at, 4, "the footer") != SPARSE_MAGIC:
            raise image.refusal(
                "is truncated: its footer is missing", "Copy the image again from where it came."
            )
        header = _read_header(image, at)
    _require_data_inside(image, header)


def _read_header(image: ImageBytes, offset: int) -> _Header:
    fields = _HEADER.unpack(image.read(offset, _HEADER.size, "the header"))
    _, _, flags, capacity, grain, descriptor, sectors, entries, _, directory = fields
    header = _Header(flags, capacity, grain, descriptor, sectors, entries, directory)
    if not 1 <= grain <= _GRAIN_SECTORS_MAX or not 1 <= entries <= _SECTOR:
        raise image.refusal(f"claims grains of {grain} sectors in tables of {entries}")
    if capacity > (1 << 63) // _SECTOR:
        raise image.refusal(f"claims a disk of {capacity} sectors")
    return header


def _check_descriptor(image: ImageBytes, header: _Header) -> None:
    if header.descriptor_sectors > _DESCRIPTOR_SECTORS_MAX:
        raise image.refusal(f"claims a description of {header.descriptor_sectors} sectors")
    raw = image.read(
        header.descriptor * _SECTOR, header.descriptor_sectors * _SECTOR, "the description"
    )
    text = raw.split(b"\0", 1)[0].decode(errors="backslashreplace")
    if not text.strip():
        raise image.refusal(
            "is one part of a VMDK that is split over several files",
            "Make them one file with 'qemu-img convert -O vmdk'.",
        )
    kind = _setting(text, "createType")
    if kind not in _SINGLE_FILE_KINDS:
        raise image.refusal(
            f"is a VMDK of the kind {kind!r}, whose data may lie in other files",
            "Make it one file with 'qemu-img convert -O vmdk'.",
        )
    parent = _setting(text, "parentCID")
    if parent.lower() != _NO_PARENT or "parentFileNameHint" in text:
        raise image.refusal(
            "holds only the changes to a parent image, which an image may not choose",
            "Make it whole with 'qemu-img convert -O vmdk'.",
        )
    if len(re.findall(r"^\s*(?:RW|RDONLY|NOACCESS)\s+\d", text, re.MULTILINE)) > 1:
        raise image.refusal("names other files with its data, which an image may not choose")


def _setting(text: str, name: str) -> str:
    found = re.findall(rf'^\s*{name}\s*=\s*"?([^"\r\n]*)', text, re.MULTILINE)
    # Twice is once too often: which of them a reader takes is anybody's guess.
    return str(found[0]).strip() if len(found) == 1 else ""


def _require_data_inside(image: ImageBytes, header: _Header) -> None:
    table_grains = header.grain * header.table_entries
    count = -(-header.capacity // table_grains)
    tables = image.read_table(
        header.directory * _SECTOR, count, "the grain directory", code="I", big=False
    )
    read_bytes = 0
    for first, entries in tables:
        for index, sector in enumerate(entries, first):
            if sector:
                # One table named over and over would keep its reader for hours.
                read_bytes += header.table_entries * 4
                if read_bytes > image.size_bytes:
                    raise image.refusal("is damaged: its tables take more than the file has")
                _require_grains_inside(image, header, sector, index * table_grains * _SECTOR)


def _require_grains_inside(
    image: ImageBytes, header: _Header, table_sector: int, disk_offset: int
) -> None:
    grain_size = header.grain * _SECTOR
    is_compressed = bool(header.flags & _FLAG_COMPRESSED)
    tables = image.read_table(
        table_sector * _SECTOR, header.table_entries, "a grain table", code="I", big=False
    )
    for first, sectors in tables:
        if max(sectors) * _SECTOR + grain_size <= image.size_bytes:
            continue
        for index, sector in enumerate(sectors, first):
            at = disk_offset + index * grain_size
            if sector > _ZERO_GRAIN and is_compressed:
                # Its marker: the disk's sector, and the size of what follows.
                what = f"the data of the disk's byte {at}"
                marker = image.read(sector * _SECTOR, 12, what)
                image.require(sector * _SECTOR + 12, int.from_bytes(marker[8:], "little"), what)
            elif sector > _ZERO_GRAIN:
                image.require_data(sector * _SECTOR, grain_size, at, header.size_bytes)
