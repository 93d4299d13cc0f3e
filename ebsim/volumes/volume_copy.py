"""Copying what a volume holds into the folder of another.

The bytes are shared where the file system can (xfs, btrfs): then it costs nothing and
takes no room.  Elsewhere they are copied, holes and zeros left out.
"""

import errno
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from ebsim.disk_errors import failure
from ebsim.durable_files import Files, write_atomically
from ebsim.progress import Progress
from ebsim.units import MIB
from ebsim.volumes.mapped_bits import MappedBits, padded_bytes
from ebsim.volumes.sparse_file import SparseFile, segment_paths
from ebsim.volumes.volume_folder import NOT_KNOWN, VolumeFolder, VolumeState

_PIECE_BYTES = 4 * MIB
_ZEROS = bytes(_PIECE_BYTES)
_SMALL_FILE_MAX = 64 * MIB
_CANNOT_SHARE = frozenset(
    {errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ETXTBSY}
)


def copy_volume_folder(
    source: VolumeFolder,
    target: VolumeFolder,
    state: VolumeState,
    progress: Progress,
    *,
    keeps_dirty: bool,
) -> None:
    """Make *target* a volume of the same content, durably.

    *source* is open in this process, flushed, and nobody writes to it; *state* is its
    state.  With *keeps_dirty* its dirty bits are the copy's; otherwise every block of the
    copy is dirty, and its first snapshot compares them all.

    Raises:
        StorageFull: no room; *target* is left in part.
    """
    files = target.files
    _copy_bytes(files, source, target, state.size_bytes, progress)
    if state.origin is not None:
        bits = _read(files, source.present, padded_bytes(state.block_count))
        write_atomically(files, target.present, bits)
    for path in (source.access, source.hydrate_first, source.hydrate_order):
        if files.status(path) is not None:
            write_atomically(files, target.path / path.name, _read(files, path, _SMALL_FILE_MAX))
    if keeps_dirty:
        bits = _read(files, source.dirty, padded_bytes(state.block_count))
        write_atomically(files, target.dirty, bits)
    else:
        with closing(MappedBits(files, target.dirty, state.block_count)) as dirty:
            dirty.set_range(0, state.block_count)
            dirty.sync()
    dirty_since = state.dirty_since if keeps_dirty else NOT_KNOWN
    target.store(replace(state, boot=None, dirty_since=dirty_since))


def _copy_bytes(
    files: Files, source: VolumeFolder, target: VolumeFolder, size_bytes: int, progress: Progress
) -> None:
    with ExitStack() as opened:
        read = SparseFile(files, source.data, size_bytes, create=False, read_only=True)
        opened.callback(read.close)
        progress.begin("copy", read.allocated_bytes())
        try:
            if not _share_bytes(files, source.data, target.data, size_bytes):
                written = SparseFile(files, target.data, size_bytes, create=True)
                opened.callback(written.close)
                _copy_data(read, written, progress)
                written.sync()
        finally:
            progress.end()


def _share_bytes(files: Files, source: Path, target: Path, size_bytes: int) -> bool:
    """Let *target* have the bytes of *source*; ``False`` where the file system cannot."""
    pairs = zip(segment_paths(source, size_bytes), segment_paths(target, size_bytes), strict=True)
    for source_path, target_path in pairs:
        with ExitStack() as opened:
            read = files.open_to_read(source_path)
            opened.callback(files.close, read)
            shared = files.create(target_path)
            opened.callback(files.close, shared)
            try:
                files.calls.clone(shared, read)
            except OSError as error:
                if error.errno in _CANNOT_SHARE:
                    return False
                raise failure("clone", shared, "The volume is unchanged.", error) from error
            files.sync(shared)
    return True


def _copy_data(read: SparseFile, written: SparseFile, progress: Progress) -> None:
    buffer = memoryview(bytearray(_PIECE_BYTES))
    for part in read.ranges(0, read.size_bytes):
        if part.is_hole:
            continue
        for start in range(part.start, part.stop, _PIECE_BYTES):
            piece = buffer[: min(_PIECE_BYTES, part.stop - start)]
            read.read(piece, start)
            if piece != _ZEROS[: len(piece)]:
                written.write(piece, start)
            progress.advance(len(piece))


def _read(files: Files, path: Path, size_max: int) -> bytes:
    descriptor = files.open_to_read(path)
    try:
        return files.read(descriptor, 0, size_max)
    finally:
        files.close(descriptor)
