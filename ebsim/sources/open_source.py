"""Opening whatever disk a name stands for."""

from importlib import import_module

from ebsim.errors import InvalidRequest, SourceUnusable
from ebsim.sources.block_device import BlockDevice
from ebsim.sources.image_bytes import ImageBytes
from ebsim.sources.image_format import ImageFormat, parse_format, settle_format
from ebsim.sources.opened_file import OpenedFile
from ebsim.sources.raw_file import RawFile
from ebsim.sources.source import SIZE_BYTES_MAX, Source
from ebsim.units import format_size


def open_source(
    name: str,
    *,
    format: str | None = None,  # noqa: A002 - the word that users write
    allow_backing_file: bool = False,
    point_in_time: bool = True,
) -> Source:
    """The disk that *name*, a path, stands for; the caller closes it.

    Args:
        name: A raw or other image file, or a block device.
        format: What to read it as; found out by its bytes otherwise.
        allow_backing_file: See :class:`~ebsim.sources.disk_image.DiskImage`.
        point_in_time: See :class:`~ebsim.sources.raw_file.RawFile`.

    Raises:
        InvalidRequest: *format* is none, or *name* is standard input, which is a
            :class:`~ebsim.sources.standard_input.StandardInput`.
        SourceUnusable: what is there cannot be used; the text says why.
        MissingTool: an image needs ``qemu-nbd``.
    """
    asked = None if format is None else parse_format(format)
    if name == "-":
        raise InvalidRequest("'-' is standard input, which has no path; call a file './-'.")
    source = _open(name, asked, allow_backing_file, point_in_time)
    if source.size_bytes > SIZE_BYTES_MAX:
        source.close()
        raise SourceUnusable(
            f"{source.location} is {source.size_bytes} bytes, larger than a volume can be "
            f"({format_size(SIZE_BYTES_MAX)})."
        )
    return source


def _open(
    name: str, asked: ImageFormat | None, allow_backing_file: bool, point_in_time: bool
) -> Source:
    file = OpenedFile(name)
    try:
        if file.is_block_device:
            found = ImageFormat.RAW if asked is None else asked
        else:
            found = settle_format(ImageBytes(file), name, asked)
    finally:
        file.close()
    if file.is_block_device and found is ImageFormat.RAW:
        return BlockDevice(name)
    if found is ImageFormat.RAW:
        return RawFile(name, point_in_time=point_in_time)
    # Loaded here: it brings sockets, child processes and NBD, which a raw disk has no use for.
    image: Source = import_module("ebsim.sources.disk_image").DiskImage(
        name, found, allow_backing_file=allow_backing_file
    )
    return image
