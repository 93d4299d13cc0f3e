"""Which format an image file is in, and whether it can be read from itself alone.

The bytes decide, never the name.  But a name that claims one format over bytes of
another is refused: one of them is wrong, and guessing which would snapshot a damaged
image as a raw disk, or a guest's own bytes as an image.  Naming the format settles it.
"""

from enum import StrEnum
from pathlib import Path

from ebsim.errors import InvalidRequest
from ebsim.sources.image_bytes import ImageBytes
from ebsim.sources.qcow2_image import BackingFile, check_qcow2
from ebsim.sources.vdi_image import MAGIC, MAGIC_AT, check_vdi
from ebsim.sources.vhd_image import FOOTER_BYTES, FOOTER_MAGIC, check_vhd, is_footer
from ebsim.sources.vmdk_image import OLD_SPARSE_MAGIC, SPARSE_MAGIC, TEXT_MAGIC, check_vmdk


class ImageFormat(StrEnum):
    """The formats that images can be read and written in, by the names that users write."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHD = "vhd"
    VHDX = "vhdx"
    VDI = "vdi"

    @property
    def driver(self) -> str:
        """qemu's name for it."""
        return "vpc" if self is ImageFormat.VHD else str(self)


_SECTOR_BYTES = 512

_EXTENSIONS = {f".{image_format}": image_format for image_format in ImageFormat} | {
    ".qcow": ImageFormat.QCOW2,
    ".vpc": ImageFormat.VHD,
}


def parse_format(name: str) -> ImageFormat:
    """The format that *name* names, in any case; qemu's ``vpc`` is taken for ``vhd``.

    Raises:
        InvalidRequest: there is no such format.
    """
    lowered = name.lower()
    for image_format in ImageFormat:
        if lowered in (image_format, image_format.driver):
            return image_format
    raise InvalidRequest(f"{name!r} is not an image format. Use one of: {', '.join(ImageFormat)}.")


def detect_format(image: ImageBytes) -> ImageFormat:
    """The format that the bytes of *image* are in: raw, where none of the others' marks is."""
    head = image.read(0, min(image.size_bytes, 512), "the header")
    if head.startswith(b"QFI\xfb"):
        return ImageFormat.QCOW2
    if head.startswith((SPARSE_MAGIC, TEXT_MAGIC, OLD_SPARSE_MAGIC)):
        return ImageFormat.VMDK
    if head.startswith(b"vhdxfile"):
        return ImageFormat.VHDX
    if head[MAGIC_AT : MAGIC_AT + 4] == MAGIC:
        return ImageFormat.VDI
    if head.startswith(FOOTER_MAGIC):
        return ImageFormat.VHD
    if image.size_bytes > FOOTER_BYTES and is_footer(
        image.read(image.size_bytes - FOOTER_BYTES, FOOTER_BYTES, "the footer")
    ):
        return ImageFormat.VHD
    return ImageFormat.RAW


def settle_format(image: ImageBytes, name: str, asked: ImageFormat | None) -> ImageFormat:
    """The format to read *image* in, which the user called *name*.

    Raises:
        SourceUnusable: the bytes are not in the format *asked* for, or that the name
            claims.
    """
    if asked is ImageFormat.RAW:
        return asked
    found = detect_format(image)
    if asked is not None:
        if asked is not found:
            raise image.refusal(
                f"is not in the format {asked}: its bytes are those of {found}",
                "Leave the format out, or say raw to take the bytes as they are.",
            )
        return asked
    claimed = _EXTENSIONS.get(Path(name).suffix.lower())
    if claimed is not None and claimed is not found:
        raise image.refusal(
            f"claims by its name to be {claimed}, and its bytes are those of {found}",
            f"Name the format to settle it: --format {found}"
            + (", or --format raw to take the bytes as they are." if found != "raw" else "."),
        )
    return found


def check_image(image: ImageBytes, image_format: ImageFormat) -> BackingFile | None:
    """Refuse *image* unless all its data is in it, but for the backing file returned.

    Most of VHDX is left to qemu, which refuses parents, logs to be replayed and blocks past
    the end of the file by itself.

    Raises:
        SourceUnusable: truncated, damaged, encrypted, or naming other files.
    """
    if image_format is ImageFormat.QCOW2:
        return check_qcow2(image)
    if image_format is ImageFormat.VMDK:
        check_vmdk(image)
    elif image_format is ImageFormat.VHD:
        check_vhd(image)
    elif image_format is ImageFormat.VDI:
        check_vdi(image)
    elif image_format is ImageFormat.VHDX and image.size_bytes % _SECTOR_BYTES:
        # qemu rounds the length up and takes the last block for whole.
        raise image.refusal(
            f"is truncated: it ends at byte {image.size_bytes}, within a sector",
            "Copy the image again from where it came.",
        )
    return None
