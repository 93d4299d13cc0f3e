"""A process that works on a store until its work is done or it is killed.

    python -m tests.stress.store_process HOME ROLE ROUNDS SEED

Roles: ``snapshot`` changes a disk of its own and snapshots it; ``delete`` deletes the oldest
snapshot of another's disk; ``restore`` restores the newest and proves it; ``compact``
compacts; ``all`` does all but restoring, by turns.  What is begun and done is told on
standard output, a line each; the last line is the longest wait for a transaction.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import TypeVar

from ebsim.chunkstore import pack_writer
from ebsim.engine.compact_store import compact_store
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.list_snapshots import list_snapshots
from ebsim.engine.region import Region
from ebsim.engine.restore_snapshot import restore_snapshot
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.errors import NotFound
from ebsim.metadata.transactions import Metadata, Reader, Transaction
from tests.engine.stores import BLOCK, block_bytes, change_disk, open_store, take, write_disk

T = TypeVar("T")

DISK_BLOCKS = 600
_DESCRIPTION = "sha256 "


class TimedMetadata:
    """Metadata that notes how long a transaction had to wait, and how long it took."""

    def __init__(self, inner: Metadata) -> None:
        self.wait_ms_max = 0.0
        self.run_ms_max = 0.0
        self._inner = inner

    def read(self, fn: Callable[[Reader], T]) -> T:
        return self._inner.read(fn)

    def run(self, fn: Callable[[Transaction], T]) -> T:
        begun = time.perf_counter()
        entered = begun

        def timed(txn: Transaction) -> T:
            nonlocal entered
            entered = time.perf_counter()
            return fn(txn)

        result = self._inner.run(timed)
        self.wait_ms_max = max(self.wait_ms_max, 1000 * (entered - begun))
        self.run_ms_max = max(self.run_ms_max, 1000 * (time.perf_counter() - entered))
        return result

    def close(self) -> None:
        self._inner.close()


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Worker:
    """The roles, on one store."""

    def __init__(self, region: Region, seed: int) -> None:
        self._region = region
        self._random = Random(seed)
        # Under the home's parent: a store is not snapshotted into itself.
        self._disk = region.home.parent / f"disk-{seed}.img"
        self._folder = region.home.parent
        self._seed = seed

    def snapshot(self) -> None:
        """Change the disk and snapshot it; its digest goes into the description."""
        if not self._disk.exists():
            write_disk(self._disk, DISK_BLOCKS * BLOCK, {0: block_bytes(self._seed)})
        indexes = self._random.sample(range(DISK_BLOCKS), 60)
        change_disk(self._disk, {i: block_bytes(self._random.randrange(400)) for i in indexes})
        digest = sha256(self._disk.read_bytes()).hexdigest()
        tell(f"taking {digest}")
        options = SnapshotOptions(
            description=_DESCRIPTION + digest, block_size=BLOCK, thread_count=2
        )
        tell(f"took {take(self._region, self._disk, options)} {digest}")

    def delete(self) -> None:
        """Delete the oldest of the snapshots that are not the only one of their volume."""
        snapshots = list_snapshots(self._region).snapshots
        volumes = [snapshot.volume_id for snapshot in snapshots]
        for snapshot in snapshots:
            if volumes.count(snapshot.volume_id) > 2:
                tell(f"deleting {snapshot.snapshot_id}")
                delete_snapshots(self._region, [snapshot.snapshot_id])
                tell(f"deleted {snapshot.snapshot_id}")
                return

    def restore(self) -> None:
        """Restore a snapshot and prove it by the digest in its description."""
        snapshots = [
            snapshot
            for snapshot in list_snapshots(self._region).snapshots
            if snapshot.state == "completed"
        ]
        if not snapshots:
            return
        snapshot = self._random.choice(snapshots)
        target = self._folder / f"restored-{self._seed}.img"
        target.unlink(missing_ok=True)
        try:
            restore_snapshot(self._region, snapshot.snapshot_id, str(target), thread_count=2)
        except NotFound:
            tell(f"gone {snapshot.snapshot_id}")
            return
        digest = sha256(target.read_bytes()).hexdigest()
        assert snapshot.description == _DESCRIPTION + digest, "restored something else"
        tell(f"restored {snapshot.snapshot_id}")

    def compact(self) -> None:
        compact_store(self._region)
        tell("compacted")

    def all(self) -> None:
        self.snapshot()
        self.delete()
        if self._random.random() < 0.3:
            self.compact()


def main() -> None:
    home, role, rounds, seed = sys.argv[1:]
    # A lower limit, so that a small disk fills several packs.
    vars(pack_writer)["PACK_RECORDS_MAX"] = 24
    region = open_store(Path(home))
    metadata = TimedMetadata(region.metadata)
    region = replace(region, metadata=metadata)
    worker = Worker(region, int(seed))
    tell("ready")
    for _ in range(int(rounds)):
        getattr(worker, role)()
    region.close()
    tell(f"waited {metadata.wait_ms_max:.1f} {metadata.run_ms_max:.1f}")


if __name__ == "__main__":
    main()
