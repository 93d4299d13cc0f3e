"""What is analysed: disk images in files and devices, and snapshots in a store.

An :class:`Image` is a value that can be sent to another process, and opened there.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ebsim.analysis.block_digests import BLOCK_SIZE_MAX
from ebsim.analysis.snapshot_source import SnapshotSource
from ebsim.engine.open_snapshot import open_snapshot
from ebsim.engine.region import open_region
from ebsim.errors import SourceUnusable
from ebsim.ids import AccountId, SnapshotId
from ebsim.sources.open_source import open_source
from ebsim.sources.opened_file import Stamp, describe_change
from ebsim.sources.source import Extent


class Readable(Protocol):
    """A disk to analyse, open; see :class:`ebsim.sources.source.Source`."""

    @property
    def size_bytes(self) -> int:
        """The disk's exact length."""

    def extents(self, start: int = 0) -> Iterator[Extent]:
        """The ranges from *start* on that may hold data; the rest reads as zeros."""

    def read_into(self, buffer: memoryview, offset_bytes: int) -> None:
        """Fill *buffer* from *offset_bytes* on; bytes past the disk's end become zeros."""

    def changed_since_opened(self) -> str | None:
        """What shows that the disk was written meanwhile, or ``None``."""


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A file or device.

    Attributes:
        stamp: The file's state when the analysis began; ``None`` for a device, which has none.
    """

    path: str
    image_format: str | None = None
    allow_backing_file: bool = False
    stamp: Stamp | None = None


@dataclass(frozen=True, slots=True)
class SnapshotPlace:
    """A snapshot in the store of a region."""

    home: Path
    region_name: str
    account_id: AccountId
    snapshot_id: SnapshotId


@dataclass(frozen=True, slots=True)
class Image:
    """A disk to analyse.

    Attributes:
        name: What reports call it; no two of one analysis have the same.
        series: Images of the same series are states of one disk, in the order given; empty
            for one that stands alone.
        identity: Names the bytes: two images of one identity hold the same.  Empty where
            nothing shows that they still do, as for a device.
    """

    name: str
    size_bytes: int
    place: FilePlace | SnapshotPlace
    series: str = ""
    identity: str = ""

    def block_count(self, block_size: int) -> int:
        """The disk in blocks, the last one filled up."""
        return -(-self.size_bytes // block_size)

    @property
    def padded_bytes(self) -> int:
        """The disk in whole stretches of the largest block."""
        return self.block_count(BLOCK_SIZE_MAX) * BLOCK_SIZE_MAX


@contextmanager
def opened_image(image: Image) -> Iterator[Readable]:
    """Have *image* open while the body runs.

    Raises:
        SourceUnusable: it cannot be read, or is not what it was when the analysis began.
        NotFound, Conflict: the snapshot is not there any more, or not completed.
    """
    place = image.place
    if isinstance(place, SnapshotPlace):
        region = open_region(place.home, place.region_name, place.account_id, create=False)
        with closing(region), open_snapshot(region, place.snapshot_id) as snapshot:
            yield SnapshotSource(region, snapshot)
        return
    source = open_source(
        place.path,
        format=place.image_format,
        allow_backing_file=place.allow_backing_file,
        # A clone for each piece would be of another moment each.
        point_in_time=False,
    )
    with closing(source):
        _require_unchanged(image, place)
        yield source
        change = source.changed_since_opened()
        if change is not None:
            raise SourceUnusable(f"{change} Nothing was written. Analyse it when it holds still.")


def _require_unchanged(image: Image, place: FilePlace) -> None:
    if place.stamp is None:
        return
    change = describe_change(place.stamp, file_stamp(place.path))
    if change is not None:
        raise SourceUnusable(
            f"{image.name} changed while it was analysed: {change}. Nothing was written. "
            "Analyse it when it holds still."
        )


def file_stamp(path: str) -> Stamp:
    """The state of the file at *path*.

    Raises:
        SourceUnusable: it went away.
    """
    try:
        found = Path(path).stat()
    except OSError as error:
        raise SourceUnusable(f"{path} went away: {error.strerror}.") from error
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def file_image(
    path: str, *, image_format: str | None, allow_backing_file: bool, series: str = ""
) -> Image:
    """The image at *path*, opened once to see whether it can be.

    Raises:
        SourceUnusable, InvalidRequest, MissingTool: as ``open_source``.
    """
    source = open_source(
        path,
        format=image_format,
        allow_backing_file=allow_backing_file,
        point_in_time=False,
    )
    with closing(source):
        size_bytes, location = source.size_bytes, source.location
    is_file = Path(location).is_file()
    stamp = file_stamp(location) if is_file else None
    identity = ""
    # What a backing file holds is not seen in the image's own times.
    if stamp is not None and not allow_backing_file:
        found = Path(location).stat()
        identity = f"{location} {found.st_dev} {found.st_ino} {image_format} {tuple(stamp)}"
    place = FilePlace(location, image_format, allow_backing_file, stamp)
    return Image(os.fspath(path), size_bytes, place, series, identity)
