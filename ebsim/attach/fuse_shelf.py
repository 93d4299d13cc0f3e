"""What a mounted directory shows: images in folders, each opened to a block device.

::

    folders              what is seen
    ("snapshots", ...)   MOUNT/snapshots/NAME.img
    ()                   MOUNT/NAME.img: the images of the folder "" lie in the mount itself

Images may come and go, and grow, while they are shown.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from ebsim.volumes.block_device import BlockDevice

__all__ = ["BlockDevice", "Image", "Shelf"]


class Image(NamedTuple):
    """What can be told of an image without opening it."""

    size_bytes: int
    modified_at_ns: int
    is_writable: bool


class Shelf(Protocol):
    """The images to show.  Every method may be called from many threads at once.

    A *name* is the file's without ``.img``: letters, digits and dashes.  Others are never
    asked for.  A *folder* is one of ``folders``, or ``""`` where there are none.
    """

    @property
    def folders(self) -> tuple[str, ...]:
        """The directories of the mount; without any, the images lie in the mount itself."""

    def names(self, folder: str) -> Iterable[str]:
        """The names of the images in *folder*."""

    def find(self, folder: str, name: str) -> Image | None:
        """The image of this name, if there is one."""

    def open(self, folder: str, name: str) -> BlockDevice:
        """The disk in an image; once until it is released, however many have it open.

        Raises:
            NotFound: it has gone meanwhile.
            Conflict: another process has it.
        """

    def release(self, folder: str, name: str, device: BlockDevice) -> None:
        """Say that nobody has it open any more.  It was flushed if anybody could write it."""
