"""Whether a VDI image (VirtualBox's format) can be read whole, from itself alone.

    offset  size  field (little-endian)      offset  size  field
    64      4     magic  0xbeda107f          368     8     size of the disk
    76      4     kind  1 growing, 2 fixed   376     4     size of a block
    340     4     offset of the block map    384     4     blocks of the disk
    344     4     offset of the data         424     16    the image that this one changes
                                             440     16    and its parent

Source:
    https://gitlab.com/qemu-project/qemu block/vdi.c
"""

import struct

from ebsim.sources.image_bytes import ImageBytes

MAGIC = (0xBEDA107F).to_bytes(4, "little")
MAGIC_AT = 64

_HEADER_BYTES = 512
_KINDS = (1, 2)
# The two highest entries: never written, and given back.
_UNUSED = 0xFFFF_FFFE


def check_vdi(image: ImageBytes) -> None:
    """Refuse *image* unless all its data is in it.

    Raises:
        SourceUnusable: damaged, truncated, or holding only the changes to a parent.
    """
    header = image.read(0, _HEADER_BYTES, "the header")
    (kind,) = struct.unpack_from("<I", header, 76)
    map_at, data_at = struct.unpack_from("<II", header, 340)
    size_bytes, block_size, _, blocks = struct.unpack_from("<QIII", header, 368)
    if kind not in _KINDS or any(header[424:456]):
        raise image.refusal(
            "holds only the changes to a parent image, which an image may not choose",
            "Merge it into its parent, or clone it with 'VBoxManage clonemedium'.",
        )
    if block_size == 0 or block_size % 512 or blocks * block_size < size_bytes:
        raise image.refusal(
            f"is damaged: {blocks} blocks of {block_size} bytes cannot hold a disk of {size_bytes}"
        )
    for first, entries in image.read_table(map_at, blocks, "the block map", code="I", big=False):
        used = max((entry for entry in entries if entry < _UNUSED), default=0)
        if data_at + (used + 1) * block_size <= image.size_bytes:
            continue
        for index, entry in enumerate(entries, first):
            if entry < _UNUSED:
                image.require_data(
                    data_at + entry * block_size, block_size, index * block_size, size_bytes
                )
