"""Which images some names stand for: files, folders, devices, snapshots, volumes, a store."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ebsim.analysis.images import Image, SnapshotPlace, file_image
from ebsim.catalog.snapshot import Snapshot
from ebsim.engine.list_snapshots import list_snapshots
from ebsim.engine.region import Region
from ebsim.errors import EbsimError, InvalidRequest, NotFound
from ebsim.ids import is_id_prefix

ONE_SERIES = "the images given"


class ImageList:
    """The images found so far, and why others were left out."""

    def __init__(self, *, keep_going: bool) -> None:
        self._keep_going = keep_going
        self.images: list[Image] = []
        self.skipped: dict[str, str] = {}

    def add_files(
        self,
        names: Iterable[str],
        *,
        image_format: str | None = None,
        allow_backing_file: bool = False,
        is_series: bool = False,
    ) -> None:
        """Add the images in files, devices and folders, in order.

        Raises:
            SourceUnusable, ...: one cannot be read, and the others are not to go on alone.
            InvalidRequest: one is named twice.
        """
        for path in _files(names):
            try:
                image = file_image(
                    path,
                    image_format=image_format,
                    allow_backing_file=allow_backing_file,
                    series=ONE_SERIES if is_series else "",
                )
            except EbsimError as error:
                if not self._keep_going:
                    raise
                self.skipped[path] = str(error)
                continue
            self._add(image)

    def add_snapshots(self, region: Region, names: Sequence[str] | None) -> None:
        """Add snapshots by their ids, all of volumes by theirs, or all there are.

        The snapshots of a volume are a series, oldest first.

        Raises:
            NotFound: there is no completed snapshot of a name.
        """
        completed = [
            snapshot for snapshot in list_snapshots(region).snapshots if snapshot.is_readable
        ]
        wanted = completed if names is None else list(_chosen(completed, names))
        for snapshot in sorted(wanted, key=lambda each: (each.volume_id, each.start_time_ns)):
            place = SnapshotPlace(
                region.home, region.name, region.account_id, snapshot.snapshot_id
            )
            self._add(
                Image(
                    snapshot.snapshot_id,
                    snapshot.size_bytes,
                    place,
                    snapshot.volume_id,
                    # Its root names its content, in whatever store.
                    f"{snapshot.root.hex() if snapshot.root else ''} {snapshot.block_size}",
                )
            )

    def _add(self, image: Image) -> None:
        if any(image.name == other.name for other in self.images):
            raise InvalidRequest(f"{image.name} is named twice. Name each image once.")
        self.images.append(image)


def is_snapshot_name(name: str) -> bool:
    """Whether *name* is the id of a snapshot or volume, or its beginning, and no file."""
    is_id = is_id_prefix(name, "snap") or is_id_prefix(name, "vol")
    return is_id and not Path(name).exists()


def _chosen(completed: Sequence[Snapshot], names: Sequence[str]) -> Iterator[Snapshot]:
    for name in names:
        found = [
            snapshot
            for snapshot in completed
            if snapshot.snapshot_id.startswith(name) or snapshot.volume_id.startswith(name)
        ]
        if not found:
            raise NotFound(
                f"There is no completed snapshot '{name}', and no volume of that id has one. "
                "Run 'ebsim snapshot ls' to see them."
            )
        if len({snapshot.volume_id for snapshot in found}) > 1:
            raise InvalidRequest(f"'{name}' is the beginning of several ids. Write more of it.")
        if name.startswith("snap-") and len(found) > 1:
            raise InvalidRequest(f"'{name}' is the beginning of several ids. Write more of it.")
        yield from found


def _files(names: Iterable[str]) -> Iterator[str]:
    """Yield *names* with each folder replaced by the files in it, at any depth, in order."""
    for name in names:
        path = Path(name)
        if not path.is_dir():
            yield name
            continue
        found = [
            file
            for file in path.rglob("*")
            if file.is_file() and not any(part.startswith(".") for part in file.parts)
        ]
        for file in sorted(found, key=_natural_order):
            if file.stat().st_size:
                yield str(file)


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """``day-2`` before ``day-10``."""
    return [
        (int(piece), "") if piece.isdigit() else (-1, piece)
        for piece in re.split(r"(\d+)", str(path))
    ]
