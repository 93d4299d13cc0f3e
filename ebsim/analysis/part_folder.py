"""The folder with the parts of an analysis: what an interrupted one goes on from.

A part's name says what it was made from and how, so a part is used again exactly if it would
be made again: the same image in the same state, and the same piece.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from xxhash import xxh3_128_hexdigest

from ebsim.analysis.content_chunks import AVERAGE_SIZES, CHUNKS_VERSION
from ebsim.analysis.images import Image
from ebsim.analysis.parts import VERSION, PartNotes, read_notes
from ebsim.analysis.piece_scan import PieceTask
from ebsim.durable_files import Files, write_atomically

_SUFFIX = ".parquet"


class PartFolder:
    """Parts in *path*.

    Args:
        run: Tells images without an identity from those of other runs.
        is_kept: Whether another run may go on from them.
    """

    def __init__(self, path: Path, run: str, *, is_kept: bool) -> None:
        self.path = path
        self._run = run
        self._is_kept = is_kept
        self._files = Files()

    def part_path(self, task: PieceTask, image: Image) -> Path:
        """Where the part of *image* that *task* makes is, or will be."""
        return self._path(image, VERSION, task.start, task.stop)

    def chunks_path(self, image: Image, start: int, stop: int) -> Path:
        """Where the content-defined chunks of a span of *image* are, or will be."""
        return self._path(image, "chunks", CHUNKS_VERSION, *AVERAGE_SIZES, start, stop)

    def _path(self, image: Image, version: int | str, *how: int) -> Path:
        identity = image.identity or f"{self._run} {image.name}"
        made_from = (version, identity, image.size_bytes, *how)
        return self.path / (xxh3_128_hexdigest(repr(made_from).encode()) + _SUFFIX)

    def has(self, task: PieceTask, image: Image) -> bool:
        """Whether the part of *image* that *task* makes is there, and whole."""
        return self.notes(self.part_path(task, image)) is not None

    def notes(self, path: Path) -> PartNotes | None:
        """What the part at *path* says, ``None`` where there is no whole one."""
        return read_notes(path) if path.exists() else None

    def write(self, path: Path, parquet: bytes) -> None:
        """Put a part at *path*, whole or not at all.

        Raises:
            StorageUnavailable, StorageFull, OSError: the disk.
        """
        if self._is_kept:
            write_atomically(self._files, path, parquet)
        else:
            # Nobody reads it after a crash, so nothing has to be synced.
            path.write_bytes(parquet)


@contextmanager
def part_folder(path: Path | None, run: str) -> Iterator[PartFolder]:
    """A folder for parts: *path*, kept, or a temporary one that goes with the body."""
    if path is not None:
        path.mkdir(parents=True, exist_ok=True)
        yield PartFolder(path, run, is_kept=True)
        return
    with TemporaryDirectory(prefix="ebsim-analyze-") as name:
        yield PartFolder(Path(name), run, is_kept=False)


def part_paths(
    folder: PartFolder, tasks: Sequence[PieceTask], images: Sequence[Image]
) -> list[list[Path]]:
    """The parts of each of *images*, by rising piece."""
    by_image: dict[str, list[Path]] = {image.name: [] for image in images}
    for task in sorted(tasks, key=lambda each: each.start):
        for image in task.images:
            if image.name in by_image:
                by_image[image.name].append(folder.part_path(task, image))
    return list(by_image.values())
