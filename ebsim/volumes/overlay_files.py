"""Opening the files of a volume: its bytes, and the bits that are believed.

state.boot        is what it was closed with    present bits    dirty bits
none              closed cleanly                durable ones    as they are
this boot         a killed process              live ones       as they are
any other         an unclean end of the         durable ones    all set
                  machine, a failed flush
"""

from contextlib import ExitStack
from typing import NamedTuple

from ebsim.durable_files import Files
from ebsim.errors import MetadataCorrupt
from ebsim.volumes.block_bitmap import bitmap_bytes
from ebsim.volumes.mapped_bits import MappedBits, padded_bytes
from ebsim.volumes.sparse_file import SparseFile
from ebsim.volumes.volume_folder import VolumeFolder, VolumeState

_NO_BITS = bytes(1 << 16)


class PresentBits(NamedTuple):
    """Which blocks are here, as of now and as of the last flush.

    Attributes:
        durable: The descriptor of the file of durable bits.
        may_be_ahead: Whether live bits may be set that are not in the durable ones.
    """

    live: MappedBits
    durable: int
    may_be_ahead: bool


class OverlayFiles(NamedTuple):
    """The files of one volume, open; ``present`` is ``None`` when every block is here."""

    data: SparseFile
    dirty: MappedBits
    present: PresentBits | None


def open_overlay_files(
    folder: VolumeFolder, state: VolumeState, boot: str, opened: ExitStack
) -> OverlayFiles:
    """Open the files of a volume in *state*, in this *boot*; *opened* closes them if need be.

    Raises:
        MetadataCorrupt: one is missing.
        StorageFull: no room for the bits.
    """
    try:
        data = SparseFile(folder.files, folder.data, state.size_bytes, create=False)
    except FileNotFoundError as error:
        raise MetadataCorrupt(where=str(folder.data), found="it is missing") from error
    opened.callback(data.close)
    present = None
    if state.origin is not None:
        present = _open_present(folder, state, boot, opened)
    dirty = MappedBits(folder.files, folder.dirty, state.block_count)
    opened.callback(dirty.close)
    if state.boot not in (None, boot):
        dirty.set_range(0, state.block_count)
    return OverlayFiles(data, dirty, present)


def _open_present(
    folder: VolumeFolder, state: VolumeState, boot: str, opened: ExitStack
) -> PresentBits:
    files = folder.files
    try:
        durable = files.open_to_write(folder.present)
    except FileNotFoundError as error:
        # Taken for empty it would bring back what the volume was made from.
        raise MetadataCorrupt(where=str(folder.present), found="it is missing") from error
    opened.callback(files.close, durable)
    files.allocate(durable, padded_bytes(state.block_count))
    is_live = state.boot == boot and files.status(folder.live_present) is not None
    if not is_live:
        folder.discard(folder.live_present)
    live = MappedBits(files, folder.live_present, state.block_count)
    opened.callback(live.close)
    if not is_live:
        _copy_bits(files, durable, live, bitmap_bytes(state.block_count))
    return PresentBits(live, durable, may_be_ahead=is_live)


def _copy_bits(files: Files, durable: int, live: MappedBits, size: int) -> None:
    """Set in *live*, of which no bit is set yet, those that are set in the file *durable*.

    What is zeros is not stored: a page that nothing is written to costs nothing, and a new
    volume of 16 TiB has a thousand of them.
    """
    for start in range(0, size, len(_NO_BITS)):
        piece = files.read(durable, start, min(len(_NO_BITS), size - start))
        if piece != _NO_BITS[: len(piece)]:
            live.memory[start : start + len(piece)] = piece
