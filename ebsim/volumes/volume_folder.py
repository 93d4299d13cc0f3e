"""What lies where in a volume's folder, and the small record of its state.

    lock             flock: whoever holds it has the volume open, and nobody else
    state.json       VolumeState, with a checksum; replaced atomically, durable
    data.0, .1 ...   the volume's bytes, sparse, in segments of 8 TiB
    present          bits of the blocks whose bytes are in data: durable ones
    present.live     the same bits as of now, believed within one boot of the machine
    dirty            bits of the blocks written since the last snapshot
    dirty.next       an empty one, made ready to take its place when a snapshot is cut
    cut-SNAP         bits of the blocks that the snapshot SNAP, being taken, has to read
    preserved-SNAP.0 what these blocks held at the cut, of those written since
    preserved-SNAP.bits   which these are
    access           block indexes in the order of their first reading, u64 LE
    hydrate.json     ranges of blocks to load first: {"first": [[start, stop], ...]}
    hydrate.order    block indexes in the order in which to load them then, u64 LE
    volume.json      the volume's record, from which a rebuild brings it back
    control.sock     where the process that has the volume open is spoken to
    serving.json     what that process says of itself

A volume that stands alone has no ``present`` files: every block is here.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from os.path import samestat
from pathlib import Path
from typing import Any

from ebsim.content.fingerprint import checksum
from ebsim.durable_files import Files, write_atomically
from ebsim.errors import Conflict, MetadataCorrupt, UnsupportedFormat
from ebsim.ids import Digest
from ebsim.volumes.sparse_file import SparseFile, segment_paths

FORMAT = 1
_CUT_PREFIX = "cut-"
_PRESERVED_PREFIX = "preserved-"

NEVER_COMPARED = "none"
"""``dirty_since`` of a volume that no snapshot was taken of yet, and that began empty."""

NOT_KNOWN = "unknown"
"""``dirty_since`` after an unclean end of the machine: the dirty bits mean nothing."""

NO_BOOT = "none"
"""``boot`` after a flush that failed: what the page cache holds of the files is not believed."""


@dataclass(frozen=True, slots=True)
class VolumeState:
    """What has to be known of a volume before its bits can be read.

    Attributes:
        origin: The root of the block map that absent blocks are read from; ``None`` when
            the volume stands alone.
        dirty_since: The snapshot that the volume differs from in its dirty blocks only;
            or one of the words above.
        boot: The boot of the machine during which the volume was opened, ``None`` after
            it was closed cleanly.
    """

    size_bytes: int
    block_size: int
    origin: Digest | None
    dirty_since: str
    boot: str | None = None

    @property
    def block_count(self) -> int:
        """Blocks, a last partial one included."""
        return -(-self.size_bytes // self.block_size)


def current_boot() -> str:
    """What tells this boot of the machine from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class VolumeFolder:
    """The folder at *path*."""

    def __init__(self, files: Files, path: Path) -> None:
        self.files = files
        self.path = path
        self.lock = path / "lock"
        self.data = path / "data"
        self.present = path / "present"
        self.live_present = path / "present.live"
        self.dirty = path / "dirty"
        self.next_dirty = path / "dirty.next"
        self.access = path / "access"
        self.hydrate_first = path / "hydrate.json"
        self.hydrate_order = path / "hydrate.order"
        self.control_socket = path / "control.sock"
        self.serving = path / "serving.json"
        self._state = path / "state.json"

    def cut(self, snapshot_id: str) -> Path:
        return self.path / f"{_CUT_PREFIX}{snapshot_id}"

    def preserved(self, snapshot_id: str) -> Path:
        return self.path / f"{_PRESERVED_PREFIX}{snapshot_id}"

    def preserved_bits(self, snapshot_id: str) -> Path:
        return self.path / f"{_PRESERVED_PREFIX}{snapshot_id}.bits"

    def cuts(self) -> list[str]:
        """The snapshots that were cut and not settled."""
        names = self.files.file_names(self.path)
        return sorted(n[len(_CUT_PREFIX) :] for n in names if n.startswith(_CUT_PREFIX))

    def begin(self) -> int:
        """Make the folder, and return its lock's descriptor: it is in use from the start.

        Raises:
            Conflict: somebody took the folder for one that was left, and removes it.
        """
        self.files.make_directories(self.path)
        descriptor = self.files.open_or_create(self.lock)
        named = None
        if self.files.lock(descriptor, wait=False):
            named = self.files.status(self.lock)
        if named is None or not samestat(named, self.files.status_of(descriptor)):
            self.files.close(descriptor)
            raise Conflict(f"{self.path} was cleared away while it was made. Try again.")
        return descriptor

    def create(self, state: VolumeState) -> None:
        """Make an empty volume in the folder, durably.  Cost: the same for any size."""
        data = SparseFile(self.files, self.data, state.size_bytes, create=True)
        try:
            data.sync()
        finally:
            data.close()
        if state.origin is not None:
            self.files.close(self.files.create(self.present))
        self.store(state)

    def load(self) -> VolumeState:
        """The state as it was stored last.

        Raises:
            MetadataCorrupt: it is missing or damaged.
            UnsupportedFormat: a newer ebsim wrote it.
        """
        try:
            descriptor = self.files.open_to_read(self._state)
        except FileNotFoundError as error:
            raise MetadataCorrupt(where=str(self._state), found="it is missing") from error
        try:
            text = self.files.read(descriptor, 0, 1 << 16)
        finally:
            self.files.close(descriptor)
        return _decode_state(text, str(self._state))

    def store(self, state: VolumeState) -> None:
        """Make *state* the volume's, durably; the old one is whole until then."""
        write_atomically(self.files, self._state, _encode_state(state))

    def take_lock(self) -> int | None:
        """The lock's descriptor, or ``None`` if another has the volume open.

        Raises:
            FileNotFoundError: the volume was removed meanwhile.
        """
        descriptor = self.files.open_to_write(self.lock)
        if self.files.lock(descriptor, wait=False):
            return descriptor
        self.files.close(descriptor)
        return None

    def is_open(self) -> bool:
        """Whether a process has the volume open."""
        descriptor = self.take_lock()
        if descriptor is None:
            return True
        self.files.close(descriptor)
        return False

    def discard(self, *paths: Path) -> None:
        """Remove files, those that are there."""
        for path in paths:
            with suppress(FileNotFoundError):
                self.files.unlink(path)

    def discard_cut(self, snapshot_id: str, size_bytes: int) -> None:
        """Remove what a cut left; the cut's bits last, so that a crash leaves them found."""
        self.discard(*segment_paths(self.preserved(snapshot_id), size_bytes))
        self.discard(self.preserved_bits(snapshot_id), self.cut(snapshot_id))

    def discard_unused_cuts(self) -> None:
        """Remove what cuts that were prepared and never made have left."""
        cuts = set(self.cuts())
        for name in self.files.file_names(self.path):
            snapshot_id = name.removeprefix(_PRESERVED_PREFIX).split(".")[0]
            if name.startswith(_PRESERVED_PREFIX) and snapshot_id not in cuts:
                self.discard(self.path / name)

    def remove(self) -> None:
        """Remove everything in the folder, the lock last, and the folder."""
        names = self.files.file_names(self.path)
        self.discard(*(self.path / name for name in names if name != self.lock.name), self.lock)
        with suppress(FileNotFoundError):
            self.files.remove_directory(self.path)
        self.files.sync_directory(self.path.parent)

    def read_block_indexes(self, path: Path) -> Iterator[int]:
        """The block indexes in ``access`` or ``hydrate.order``; none where there is no file."""
        try:
            descriptor = self.files.open_to_read(path)
        except FileNotFoundError:
            return
        try:
            position = 0
            while piece := self.files.read(descriptor, position, 1 << 16):
                whole = len(piece) // 8 * 8
                for at in range(0, whole, 8):
                    yield int.from_bytes(piece[at : at + 8], "little")
                if whole < len(piece):
                    return
                position += whole
        finally:
            self.files.close(descriptor)


def _encode_state(state: VolumeState) -> bytes:
    values = asdict(state)
    values["origin"] = state.origin.hex() if state.origin is not None else None
    values["format"] = FORMAT
    body = json.dumps(values, sort_keys=True)
    return json.dumps({"state": values, "checksum": checksum(body.encode()).hex()}).encode()


def _decode_state(text: bytes, where: str) -> VolumeState:
    try:
        document = json.loads(text)
        values: dict[str, Any] = document["state"]
        body = json.dumps(values, sort_keys=True)
        if checksum(body.encode()).hex() != document["checksum"]:
            raise MetadataCorrupt(where=where, found="a checksum that does not fit")
        if values.pop("format") != FORMAT:
            raise UnsupportedFormat(
                f"{where} was written by a newer ebsim. Nothing was changed. Use that one."
            )
        origin = values.pop("origin")
        root = Digest(bytes.fromhex(origin)) if origin is not None else None
        return VolumeState(origin=root, **values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MetadataCorrupt(where=where, found=repr(error)) from error
