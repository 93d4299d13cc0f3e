"""A disk inside an image file: qcow2, VMDK, VHD, VHDX or VDI, read through ``qemu-nbd``.

The image is checked here before qemu sees it (``image_format.py``): an untrusted image
never chooses another file to be read, and one that was cut off is refused, where qemu
would read its missing end as zeros.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ebsim.errors import SourceUnusable
from ebsim.sources.image_bytes import ImageBytes
from ebsim.sources.image_format import ImageFormat, check_image, parse_format, settle_format
from ebsim.sources.nbd_export import NbdExport
from ebsim.sources.opened_file import OpenedFile
from ebsim.sources.qcow2_image import BackingFile
from ebsim.sources.source import Extent

_BACKING_DEPTH_MAX = 64
# Clear of the descriptors that a child begins with.
_SHARED_FD_MIN = 10


class DiskImage:
    """A :class:`~ebsim.sources.source.Source` over the disk in the image at *path*.

    Args:
        path: The image file.
        image_format: What to read it as; not raw.
        allow_backing_file: Let a qcow2 image take what it lacks from the file it names.

    Raises:
        SourceUnusable: missing, unreadable, in use by a virtual machine, truncated,
            damaged, encrypted, or naming other files.
        MissingTool: there is no ``qemu-nbd``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        image_format: ImageFormat,
        *,
        allow_backing_file: bool = False,
    ) -> None:
        assert image_format is not ImageFormat.RAW, "a raw image is a RawFile"
        self._file = OpenedFile(path)
        try:
            backing = _check(self._file, image_format)
            if backing is not None:
                _check_backing(self.location, backing, is_allowed=allow_backing_file)
            self._export = self._serve(image_format, has_backing_file=backing is not None)
        except BaseException:
            self._file.close()
            raise

    def _serve(self, image_format: ImageFormat, *, has_backing_file: bool) -> NbdExport:
        if has_backing_file:
            # Its name is looked up beside the image's.
            return NbdExport(_qemu_options(image_format, self.location), location=self.location)
        # The very file that was checked, whatever is under its name by now.
        shared_fd = fcntl.fcntl(self._file.fd, fcntl.F_DUPFD_CLOEXEC, _SHARED_FD_MIN)
        try:
            options = _qemu_options(image_format, f"/dev/fd/{shared_fd}")
            return NbdExport(options, location=self.location, pass_fd=shared_fd)
        finally:
            os.close(shared_fd)

    @property
    def location(self) -> str:
        return self._file.location

    @property
    def size_bytes(self) -> int:
        return self._export.size_bytes

    @property
    def caution(self) -> str | None:
        """Nothing: qemu refuses an image that a virtual machine is writing."""
        return None

    @property
    def child_pid(self) -> int:
        """The process id of the ``qemu-nbd`` that serves the disk."""
        return self._export.child_pid

    def extents(self, start: int = 0) -> Iterator[Extent]:
        position = data_start = start
        is_in_data = False
        while position < self.size_bytes:
            with self._export.client(position) as client:
                ranges = list(client.block_status(position))
            for found in ranges:
                if found.is_zero and is_in_data:
                    yield Extent(data_start, found.start)
                elif not found.is_zero and not is_in_data:
                    data_start = found.start
                is_in_data = not found.is_zero
                position = found.stop
        if is_in_data:
            yield Extent(data_start, self.size_bytes)

    def read_into(self, buffer: memoryview, offset_bytes: int) -> None:
        inside = max(0, min(len(buffer), self.size_bytes - offset_bytes))
        with self._export.client(offset_bytes) as client:
            client.read_into(buffer[:inside], offset_bytes)
        if inside < len(buffer):
            buffer[inside:] = bytes(len(buffer) - inside)

    def changed_since_opened(self) -> str | None:
        return self._file.changed_since_opened()

    def close(self) -> None:
        self._export.close()
        self._file.close()


def _check(file: OpenedFile, image_format: ImageFormat) -> BackingFile | None:
    if file.is_block_device:
        raise SourceUnusable(
            f"{file.location} is a block device, which is read as raw only. "
            "Nothing was made from it."
        )
    return check_image(ImageBytes(file), image_format)


def _qemu_options(image_format: ImageFormat, filename: str) -> bytes:
    options = f"driver={image_format.driver}"
    if image_format is ImageFormat.VHD:
        # By default qemu believes the geometry, which is rounded down, for some writers.
        options += ",force_size_calc=current_size"
    options += f",file.driver=file,file.filename={filename.replace(',', ',,')}"
    return os.fsencode(options)


def _check_backing(location: str, backing: BackingFile, *, is_allowed: bool) -> None:
    """Refuse a chain of backing files that is not allowed, not whole, or not plain files."""
    for _ in range(_BACKING_DEPTH_MAX):
        if not is_allowed:
            raise SourceUnusable(
                f"{location} takes data from another file, {backing.name!r}, which an image may "
                "not choose. Nothing was made from it. If you trust both, use "
                "--allow-backing-file."
            )
        if not backing.format or ":" in backing.name.partition("/")[0]:
            raise SourceUnusable(
                f"{location} names its backing file {backing.name!r} without its format, or not "
                "as a plain file. Nothing was made from it. Say what it is with "
                "'qemu-img rebase -u'."
            )
        path = Path(location).parent / backing.name
        backing_format = parse_format(backing.format)
        file = OpenedFile(path)
        try:
            image = ImageBytes(file)
            settle_format(image, str(path), backing_format)
            deeper = None if file.is_block_device else check_image(image, backing_format)
        finally:
            file.close()
        if deeper is None:
            return
        location, backing = file.location, deeper
    raise SourceUnusable(
        f"{location} is at the end of a chain of {_BACKING_DEPTH_MAX} backing files or a circle."
    )
