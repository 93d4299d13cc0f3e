"""Making a region's metadata anew from its packs and manifests.

    state of the region                          what is on the disk
    before                                       metadata/ (or none), packs/, snapshots/
    being rebuilt                                metadata.new/ beside it
    old one aside                                metadata.old-N/, metadata.new/
    done                                         metadata.old-N/, metadata/

A crash in any state loses nothing: ``metadata.new/`` is begun again, and a region without
``metadata/`` refuses to open until a rebuild has ended.  Packs and manifests are only
read.  No session may be alive, and none can begin until the new metadata is in place.

What is not in packs and manifests does not come back: fingerprints (the next snapshot of
each volume hashes every block and has them again), interrupted uploads, and sources
without a completed snapshot.  Volumes whose bytes are here, and instances, come back from
the records that are kept of them (``rebuild_volumes.py``, ``kept_records.py``).
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from typing import TypeVar

from ebsim.backends.local_directory import LocalDirectory
from ebsim.catalog.manifest import snapshot_id_of
from ebsim.catalog.records import put_instance, put_snapshot, put_volume
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.volume import Volume
from ebsim.chunkstore.chunk_reader import ChunkReader
from ebsim.chunkstore.index_rebuild import IndexRebuild
from ebsim.chunkstore.sessions import Sessions
from ebsim.durable_files import Files
from ebsim.engine.blast_radius import BlastRadius
from ebsim.engine.check_report import AffectedSnapshot, merged_snapshots
from ebsim.engine.holds import root_holder, volume_holder
from ebsim.engine.home import prepare_home, region_path
from ebsim.engine.kept_records import kept_instances
from ebsim.engine.kept_settings import bring_back, kept_rows
from ebsim.engine.rebuild_trees import TreeRebuild
from ebsim.engine.rebuild_volumes import kept_volumes
from ebsim.engine.region import METADATA, make_seed, raise_generation
from ebsim.engine.repair_catalog import readable_manifest
from ebsim.errors import NotFound
from ebsim.ids import VolumeId, is_whole_id
from ebsim.metadata.lmdb_metadata import LmdbMetadata
from ebsim.metadata.transactions import Transaction
from ebsim.progress import Progress, Unwatched

T = TypeVar("T")

_NEW = "metadata.new"
_ROWS_PER_STEP = 256


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild brought back.

    Attributes:
        volume_count: Volumes whose bytes are here, those in the recycle bin included.
        freed_count: Chunks that no snapshot and no volume needs: their space is dead now.
        lost: Blocks that cannot be read, and snapshots that did not come back.
        complaints: Packs and manifests that were not whole, a sentence each.
        set_aside: Where the old metadata is now; ``None`` if there was none.
    """

    snapshot_count: int
    volume_count: int
    pack_count: int
    chunk_count: int
    freed_count: int
    lost: Sequence[AffectedSnapshot]
    complaints: Sequence[str]
    set_aside: Path | None


def rebuild_store(
    home: Path,
    region_name: str,
    *,
    progress: Progress | None = None,
    files: Files | None = None,
    random: Random | None = None,
) -> RebuildReport:
    """Make the metadata of a region anew, whatever has become of the old.

    Cost: one read of every footer and node.  The old metadata is kept, not deleted.

    Raises:
        NotFound: there is no such home or region.
        Conflict: a process is at work on the region.
        StorageFull, StorageUnavailable: nothing was changed.
    """
    files = files or Files()
    home = home.absolute()
    prepare_home(home, files, create=False)
    path = region_path(home, region_name)
    if files.status(path) is None:
        raise NotFound(f"there is no region {region_name} in {home}. Nothing was changed.")
    if files.status(path / "sessions") is None:
        files.make_directories(path / "sessions")
    random = random or SystemRandom()
    backend = LocalDirectory(path, files)
    try:
        with Sessions(path / "sessions", random, files).shut_out():
            return _Rebuild(path, backend, files, random, progress or Unwatched()).run()
    finally:
        backend.close()


class _Rebuild:
    """One rebuild of the region at *path*."""

    def __init__(
        self,
        path: Path,
        backend: LocalDirectory,
        files: Files,
        random: Random,
        progress: Progress,
    ) -> None:
        self._path = path
        self._backend = backend
        self._files = files
        self._random = random
        self._progress = progress
        self._complaints: list[str] = []
        self._gone: list[AffectedSnapshot] = []
        self._has_unknown = False
        self._volume_count = 0

    def run(self) -> RebuildReport:
        new = self._path / _NEW
        if self._files.status(new) is not None:
            shutil.rmtree(new)
        metadata = LmdbMetadata(new)
        try:
            index = IndexRebuild(self._backend, metadata, new, self._progress)
            index.index_packs()
            trees = TreeRebuild(metadata, ChunkReader(self._backend, metadata))
            found = self._read_manifests()
            brought_back = self._bring_back(metadata, trees, found)
            may_free = not (self._gone or self._has_unknown or trees.has_lost_nodes)
            chunk_count = index.settle(trees.reached, may_free=may_free)
            radius = BlastRadius(metadata, trees.damaged.keys())
        finally:
            metadata.close()
        self._complaints += [f"{p.name}: {p.complaint}" for p in index.packs if p.complaint]
        lost = [one for affected in radius.affects.values() for one in affected]
        return RebuildReport(
            snapshot_count=brought_back,
            volume_count=self._volume_count,
            pack_count=len(index.packs),
            chunk_count=chunk_count,
            freed_count=index.freed_count,
            lost=merged_snapshots([*lost, *self._gone]),
            complaints=self._complaints,
            set_aside=self._swap(),
        )

    def _read_manifests(self) -> list[tuple[Snapshot, Volume]]:
        """The snapshots and volumes of all manifests, oldest first."""
        found = []
        for name in sorted(self._backend.names("snapshots")):
            snapshot_id = snapshot_id_of(name)
            if not is_whole_id(snapshot_id, "snap"):
                continue
            manifest = readable_manifest(self._backend, snapshot_id)
            if manifest is None:
                self._complaints.append(f"{name}: it is damaged or from a newer ebsim")
                self._gone.append(AffectedSnapshot(snapshot_id, (), is_whole=True))
            else:
                found.append(manifest)
        return sorted(found, key=lambda one: (one[0].start_time_ns, one[0].snapshot_id))

    def _bring_back(
        self,
        metadata: LmdbMetadata,
        trees: TreeRebuild,
        found: Sequence[tuple[Snapshot, Volume]],
    ) -> int:
        """Write the catalog's rows and the trees'; return how many snapshots came back."""
        kept: list[Snapshot] = []
        for snapshot, _ in found:
            if snapshot.is_archived or (
                snapshot.root is not None
                and trees.add_root(root_holder(snapshot.snapshot_id), snapshot.root)
            ):
                kept.append(snapshot)
            else:
                self._complaints.append(f"{snapshot.snapshot_id}: the root of its map is gone")
                self._gone.append(AffectedSnapshot(snapshot.snapshot_id, (), is_whole=True))
        # The newest manifest of a volume says how large it was when it was last read.
        volumes = self._known_volumes(trees, {volume.volume_id: volume for _, volume in found})
        trees.finish()
        for first in range(0, len(kept), _ROWS_PER_STEP):
            step = kept[first : first + _ROWS_PER_STEP]
            metadata.run(partial(_put_all, put_snapshot, step))
        metadata.run(partial(_put_all, put_volume, volumes))
        instances, complaints = kept_instances(self._files, self._path)
        self._complaints += complaints
        metadata.run(partial(_put_all, put_instance, instances))
        rows, complaints = kept_rows(self._files, self._path)
        self._complaints += complaints
        metadata.run(lambda txn: bring_back(txn, rows))
        generation = max((snapshot.generation for snapshot, _ in found), default=0)
        metadata.run(lambda txn: raise_generation(txn, generation))
        # Last: a region opens only with a seed.
        metadata.run(lambda txn: make_seed(txn, self._random))
        return len(kept)

    def _known_volumes(
        self, trees: TreeRebuild, in_manifests: Mapping[VolumeId, Volume]
    ) -> Sequence[Volume]:
        """The volumes to bring back; what they need is held."""
        kept = kept_volumes(self._files, self._path, in_manifests)
        self._complaints += kept.complaints
        self._has_unknown = bool(kept.unknown)
        self._volume_count = sum(one.is_local and not one.is_deleted for one in kept.rows)
        for volume_id, root in kept.origins.items():
            if not trees.add_root(volume_holder(volume_id), root):
                self._complaints.append(
                    f"{volume_id}: the root of the map that it was made from is gone"
                )
        return kept.rows

    def _swap(self) -> Path | None:
        """Put the new metadata in the place of the old, which is kept aside."""
        old, aside = self._path / METADATA, None
        if self._files.status(old) is not None:
            count = 1
            while self._files.status(self._path / f"{METADATA}.old-{count}") is not None:
                count += 1
            aside = self._path / f"{METADATA}.old-{count}"
            self._files.rename(old, aside)
            self._files.sync_directory(self._path)
        self._files.rename(self._path / _NEW, old)
        self._files.sync_directory(self._path)
        return aside


def _put_all(
    put: Callable[[Transaction, T], None], records: Sequence[T], txn: Transaction
) -> None:
    for record in records:
        put(txn, record)
