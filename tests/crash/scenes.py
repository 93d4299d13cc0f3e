"""The verbs that the crash tests stop and break, each with the store that it needs."""

import os
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from ebsim.catalog.retention_rule import ResourceType
from ebsim.clock import ManualClock
from ebsim.engine.archive_snapshot import archive_snapshot
from ebsim.engine.compact_store import compact_store
from ebsim.engine.copy_snapshot import CopyOptions, copy_snapshot
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.kms_keys import choose_default_key, create_alias, create_key
from ebsim.engine.list_snapshots import list_snapshots
from ebsim.engine.recovery import recover
from ebsim.engine.recycle_bin import restore_snapshot_from_bin, sweep_recycle_bin
from ebsim.engine.region import Region
from ebsim.engine.restore_snapshot import restore_snapshot
from ebsim.engine.retention_rules import RuleRequest, create_rule
from ebsim.engine.tags import tag_snapshot
from ebsim.engine.unarchive_snapshot import unarchive_snapshot
from ebsim.metadata.transactions import Table
from ebsim.progress import Progress
from tests.crash.recorded_store import open_small_store
from tests.engine.stores import BLOCK, SMALL, block_bytes, change_disk, take, write_disk

DISK_SIZE = 300 * BLOCK + 700
FIRST_BLOCKS = (*range(12), *range(120, 140), 200, 201, *range(250, 262), 299, 300)
LONG_RUN = range(20, 44)
SMALL_DISK = {index: block_bytes(index + 300) for index in (0, 1, 5, 128)}


class DyingProgress:
    """Ends the process, as ``kill -9`` does, when three leaves are done and one committed."""

    def __init__(self) -> None:
        self._leaf_count = 0

    def begin(self, label: str, total_bytes: int | None) -> None:
        del label, total_bytes

    def advance(self, byte_count: int) -> None:
        del byte_count
        self._leaf_count += 1
        if self._leaf_count == 3:
            os._exit(9)

    def end(self) -> None:
        raise AssertionError("the snapshot has more than two leaves")


@dataclass(frozen=True, slots=True)
class Scene:
    """A store and a disk, and the verb to stop: *before* is not recorded, *verb* is.

    Both are given the home or the region, the disk's path, and the disks of the snapshots
    so far, to add to.
    """

    before: Callable[[Path, Path, dict[str, bytes]], None] | None
    verb: Callable[[Region, Path, dict[str, bytes]], None]


def snapshot(region: Region, disk: Path, contents: dict[str, bytes]) -> str:
    """Take a snapshot of *disk* and remember what it must hold."""
    snapshot_id = take(region, disk)
    contents[snapshot_id] = disk.read_bytes()
    return snapshot_id


def first(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    snapshot(region, disk, contents)


def one(home: Path, disk: Path, contents: dict[str, bytes]) -> None:
    region = open_small_store(home, Random("one"))
    first(region, disk, contents)
    region.close()


def second(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    changes = {index: block_bytes(index + 700) for index in FIRST_BLOCKS[::2]}
    change_disk(disk, {**changes, 128: bytes(BLOCK), 250: block_bytes(102)})
    snapshot(region, disk, contents)


def three(home: Path, disk: Path, contents: dict[str, bytes]) -> None:
    """Three snapshots; the middle one alone has a run of blocks worth a hole."""
    one(home, disk, contents)
    region = open_small_store(home, Random("three"))
    change_disk(disk, {i: Random(i).randbytes(BLOCK) for i in LONG_RUN})
    change_disk(disk, {60: block_bytes(160)})
    snapshot(region, disk, contents)
    change_disk(disk, {i: block_bytes(i + 500) for i in LONG_RUN[:3]})
    change_disk(disk, {i: bytes(BLOCK) for i in LONG_RUN[3:]})
    snapshot(region, disk, contents)
    region.close()


def delete_middle(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    del disk
    delete_snapshots(region, [list(contents)[1]])


def delete_first(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    del disk
    delete_snapshots(region, [next(iter(contents))])


def delete_all(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    del disk
    delete_snapshots(region, list(contents))


def wasteful(home: Path, disk: Path, contents: dict[str, bytes]) -> None:
    """Three snapshots of which the first and the last are deleted."""
    three(home, disk, contents)
    region = open_small_store(home, Random("wasteful"))
    first_id, _, last_id = contents
    delete_snapshots(region, [first_id, last_id])
    del contents[first_id], contents[last_id]
    region.close()


def compact(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    del disk, contents
    assert compact_store(region).moved_count > 0


def tag(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    del disk
    tag_snapshot(region, next(iter(contents)), {"colour": "green"})


def choose_a_key(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    del disk, contents
    create_alias(region, "alias/disks", create_key(region).key_id)
    choose_default_key(region, "alias/disks")


def into_the_bin(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    """Make a rule that keeps everything, and delete the middle one of three."""
    create_rule(region, RuleRequest(ResourceType.SNAPSHOT, 1))
    delete_middle(region, disk, contents)


def in_the_bin(home: Path, disk: Path, contents: dict[str, bytes], *, days_ago: int = 0) -> None:
    three(home, disk, contents)
    clock = ManualClock()
    clock.advance(-days_ago * 86_400)
    region = open_small_store(home, Random("bin"), clock=clock)
    into_the_bin(region, disk, contents)
    region.close()


def out_of_the_bin(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    del disk
    restore_snapshot_from_bin(region, list(contents)[1])


def empty_the_bin(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    del disk, contents
    sweep_recycle_bin(region)
    assert not region.metadata.read(lambda reader: reader.scan(Table.RECYCLE_BIN, limit=1))


def read(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    del disk
    target = region.home.parent / "read.img"
    target.unlink(missing_ok=True)
    restore_snapshot(region, next(iter(contents)), str(target), thread_count=1)
    assert target.read_bytes() == next(iter(contents.values()))


def killed_snapshot(home: Path, disk: Path, contents: dict[str, bytes]) -> None:
    """One snapshot, and one whose process is killed when its first packs are committed."""
    one(home, disk, contents)
    change_disk(disk, {i: block_bytes(i + 900) for i in FIRST_BLOCKS})
    killed(home, lambda dying: create_snapshot(dying, str(disk), SMALL, DyingProgress()))


def killed(home: Path, verb: Callable[[Region], object]) -> None:
    """Run *verb* in a process of its own, which ends itself on the way."""
    child = os.fork()
    if child == 0:
        try:
            verb(open_small_store(home, Random("killed")))
        finally:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9


def recovery(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    del disk, contents
    assert len(recover(region)) == 1


def elsewhere(home: Path) -> Region:
    """Another store, beside *home* and not in it: no crash happens there."""
    return open_small_store(home.parent / "elsewhere", Random("elsewhere"))


def copy_disk(
    region: Region,
    disk: Path,
    contents: dict[str, bytes],
    progress: Progress | None = None,
) -> None:
    """Copy the newest snapshot of the other store, which is of *disk* as it is."""
    with closing(elsewhere(region.home)) as source:
        newest = list_snapshots(source).snapshots[-1].snapshot_id
        done = copy_snapshot(region, source, newest, CopyOptions(thread_count=1), progress)
    contents[done.snapshot.snapshot_id] = disk.read_bytes()


def copied_before(home: Path, disk: Path, contents: dict[str, bytes]) -> None:
    """A copy of the first of the other store's two snapshots."""
    with closing(elsewhere(home)) as source:
        take(source, disk)
        with closing(open_small_store(home, Random("copied before"))) as region:
            copy_disk(region, disk, contents)
        change_disk(disk, {i: block_bytes(i + 900) for i in FIRST_BLOCKS[::6]})
        take(source, disk)


def killed_copy(home: Path, disk: Path, contents: dict[str, bytes]) -> None:
    """A copy whose process is killed when its first packs are committed."""
    with closing(elsewhere(home)) as source:
        take(source, disk)
    killed(home, lambda dying: copy_disk(dying, disk, contents, DyingProgress()))


def two_small(home: Path, disk: Path, contents: dict[str, bytes]) -> None:
    """Two snapshots of a disk with few blocks, so that an archive of it has few packs."""
    del disk
    with closing(open_small_store(home, Random("two small"))) as region:
        small = write_disk(home.parent / "small.img", 129 * BLOCK, SMALL_DISK)
        snapshot(region, small, contents)
        change_disk(small, {1: block_bytes(701)})
        snapshot(region, small, contents)


def archived(home: Path, disk: Path, contents: dict[str, bytes]) -> None:
    """Two snapshots, of which the first is archived."""
    two_small(home, disk, contents)
    with closing(open_small_store(home, Random("archived"))) as region:
        archive_snapshot(region, next(iter(contents)))


def temporarily(home: Path, disk: Path, contents: dict[str, bytes]) -> None:
    """The first of two is archived, and restored for a day that is over."""
    archived(home, disk, contents)
    clock = ManualClock()
    clock.advance(-24 * 3600)
    with closing(open_small_store(home, Random("temporarily"), clock=clock)) as region:
        unarchive_snapshot(region, next(iter(contents)), 1)


def settle(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    del disk, contents
    recover(region)


def archive(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    del disk
    archive_snapshot(region, next(iter(contents)))


def unarchive(region: Region, disk: Path, contents: dict[str, bytes]) -> None:
    del disk
    unarchive_snapshot(region, next(iter(contents)))


SCENES = {
    "create in a new home": Scene(None, first),
    "create again": Scene(one, second),
    "delete the middle one of three": Scene(three, delete_middle),
    "delete all": Scene(three, delete_all),
    "recover from a killed snapshot": Scene(killed_snapshot, recovery),
    "go on from a killed snapshot": Scene(killed_snapshot, first),
    "compact": Scene(wasteful, compact),
    "copy a later snapshot": Scene(copied_before, copy_disk),
    "go on from a killed copy": Scene(killed_copy, copy_disk),
    "archive": Scene(two_small, archive),
    "unarchive": Scene(archived, unarchive),
    "end a temporary restore": Scene(temporarily, settle),
    "delete an archived one": Scene(archived, delete_first),
    "tag": Scene(one, tag),
    "choose a key": Scene(one, choose_a_key),
    "delete into the recycle bin": Scene(three, into_the_bin),
    "take out of the recycle bin": Scene(in_the_bin, out_of_the_bin),
    "empty the recycle bin": Scene(partial(in_the_bin, days_ago=2), empty_the_bin),
    "restore": Scene(one, read),
}


def prepare(scene: Scene, folder: Path) -> tuple[Path, Path, dict[str, bytes]]:
    """Set *scene* in *folder*: its home, its disk, and what its snapshots hold."""
    disk = write_disk(folder / "disk.img", DISK_SIZE, {i: block_bytes(i) for i in FIRST_BLOCKS})
    home = folder / "home"
    home.mkdir()
    contents: dict[str, bytes] = {}
    if scene.before is not None:
        scene.before(home, disk, contents)
    return home, disk, contents
