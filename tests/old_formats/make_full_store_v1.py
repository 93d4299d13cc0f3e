"""Makes ``full_store_v1.tar.xz``, which has all that format 1 can hold, and what that is.

    python -m tests.old_formats.make_full_store_v1

Run once, by an ebsim that had volumes, tiers, the recycle bin, events and policies; the
archive is committed and every later ebsim must read it.  As with ``make_store_v1.py``
clock, chance and disks are fixed and one thread reads, and digests are of the disks.

Two regions, two accounts in the first.  Snapshots: of blocks of 4 KiB and of 64 KiB, tagged,
locked in both modes, shared with an account and with everybody, archived, restored for a
time, in the recycle bin, copied between the regions, put block by block, and begun so and
not completed.  Volumes: nothing of it here yet, a part read and a part written, all of it
here, in the recycle bin.  An instance with a volume; rules, a policy that has run, sinks of
the region and of the home, settings, events.
"""

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from ebsim.catalog.account_settings import BlockPublicAccess
from ebsim.catalog.retention_rule import ResourceType
from ebsim.catalog.snapshot_lock import LockMode
from ebsim.clock import ManualClock
from ebsim.engine.archive_snapshot import archive_snapshot
from ebsim.engine.block_public_access import block_public_access
from ebsim.engine.copy_snapshot import CopyOptions, copy_snapshot
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.event_sinks import SinkKind, SinkOptions, add_sink
from ebsim.engine.instances import attach_to_instance, create_instance
from ebsim.engine.lifecycle_policies import PolicyOptions, create_policy
from ebsim.engine.lock_snapshot import LockRequest, lock_snapshot
from ebsim.engine.open_volume import open_volume
from ebsim.engine.region import Region, open_region
from ebsim.engine.remove_volume import remove_volume
from ebsim.engine.retention_rules import RuleRequest, create_rule
from ebsim.engine.run_lifecycle import run_policy
from ebsim.engine.share_snapshot import Grantees, share_snapshot
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.tags import tag_snapshot
from ebsim.engine.unarchive_snapshot import unarchive_snapshot
from ebsim.ids import AccountId, VolumeId
from tests.engine.direct_snapshots import Plane, access_to
from tests.old_formats.make_store_v1 import ACCOUNT, KIB, LOCK, REGION, add
from tests.old_formats.store_contents import ENDED_NS, OTHER_ACCOUNT, OTHER_REGION, records_of

FOLDER = Path(__file__).parent
ARCHIVE = FOLDER / "full_store_v1.tar.xz"
CONTENTS = FOLDER / "full_store_v1.json"
DAY = 86_400
BLOCK = 4 * KIB
PUTS = {0: 1, 3: 2, 130: 1}
PENDING_PUTS = {0: 5, 4: 6}


@dataclass(slots=True)
class FullStore:
    """The store while it is made: where, at what time, and what its disks hold.

    Attributes:
        disks: By the id of a snapshot or a volume, the SHA-256 of its bytes.
        puts: By the id of a snapshot that was put block by block, its blocks' seeds.
    """

    home: Path
    image: Path
    clock: ManualClock = field(default_factory=ManualClock)
    random: Random = field(default_factory=lambda: Random(11))
    disk: bytearray = field(default_factory=bytearray)
    disks: dict[str, str] = field(default_factory=dict)
    puts: dict[str, dict[int, int]] = field(default_factory=dict)

    @contextmanager
    def region(self, name: str = REGION, account_id: AccountId = ACCOUNT) -> Iterator[Region]:
        with closing(
            open_region(self.home, name, account_id, clock=self.clock, random=self.random)
        ) as region:
            yield region

    def take(self, region: Region, block_size: int = BLOCK, **tags: str) -> str:
        """Change the disk a little and snapshot it."""
        self.clock.advance(60)
        at = self.random.randrange(len(self.disk) // BLOCK) * BLOCK
        self.disk[at : at + BLOCK] = self.random.randbytes(BLOCK)
        self.image.write_bytes(self.disk)
        options = SnapshotOptions(
            block_size=block_size, thread_count=1, description="nightly", tags=tags
        )
        taken = create_snapshot(region, str(self.image), options)
        self.note(taken.snapshot_id, self.disk)
        return taken.snapshot_id

    def new_disk(self, size_bytes: int) -> None:
        """Another disk, of which a part is text, a part zeros, a part chance."""
        self.image = self.image.with_name(f"{self.image.name}.{size_bytes}")
        self.disk = bytearray(size_bytes)
        self.disk[: 8 * BLOCK] = self.random.randbytes(8 * BLOCK)
        self.disk[20 * BLOCK : 40 * BLOCK] = b"compressible text, 32 bytes long" * 2560

    def note(self, name: str, data: bytes | bytearray) -> None:
        self.disks[name] = hashlib.sha256(data).hexdigest()


def make_store(home: Path, image: Path) -> dict[str, Any]:
    """Make the store at *home*, with disks at *image* and beside it; return what it holds."""
    store = FullStore(home, image)
    with store.region() as region:
        _events_go_somewhere(region)
        store.new_disk(600 * KIB + 123)
        _snapshots_of_all_kinds(store, region)
        _volumes_of_all_kinds(store, region)
        _direct_snapshots(store, region)
        _policy(store, region)
        store.new_disk(400 * KIB)
        store.take(region, 64 * KIB, size="large")
        block_public_access(region, BlockPublicAccess.BLOCK_NEW_SHARING)
    with store.region(account_id=OTHER_ACCOUNT) as region:
        store.take(region, of="another")
    _copies(store)
    assert store.clock.now_ns() < ENDED_NS, "what has a time must not be over in the tests"
    found: dict[str, Any] = {"disks": store.disks, "puts": store.puts, "records": {}}
    for name in (REGION, OTHER_REGION):
        with store.region(name) as region:
            found["records"][name] = records_of(region)
    # Numbers are strings as the names of members.
    return dict(json.loads(json.dumps(found)))


def _events_go_somewhere(region: Region) -> None:
    everything = SinkOptions(kind=SinkKind.LOG, target="/nonexistent/events", is_of_home=True)
    add_sink(region, "everything", everything)
    pattern = '{"source": ["aws.ec2"]}'
    add_sink(
        region,
        "hook",
        SinkOptions(kind=SinkKind.WEBHOOK, target="http://127.0.0.1:9/", pattern=pattern),
    )


def _snapshots_of_all_kinds(store: FullStore, region: Region) -> None:
    first = store.take(region, env="test", keep="no")
    archived = store.take(region)
    for_a_time = store.take(region)
    binned = store.take(region, gone="yes")
    locked = store.take(region)
    tag_snapshot(region, first, {"owner": "füchsin", "empty": ""})
    share_snapshot(region, first, Grantees(frozenset({OTHER_ACCOUNT})))
    share_snapshot(region, locked, Grantees(everybody=True))
    lock_snapshot(region, first, LockRequest(LockMode.GOVERNANCE, duration_days=30_000))
    compliance = LockRequest(LockMode.COMPLIANCE, duration_days=30_000, cool_off_hours=72)
    lock_snapshot(region, locked, compliance)
    archive_snapshot(region, archived)
    archive_snapshot(region, for_a_time)
    unarchive_snapshot(region, for_a_time, 180)
    pair = (("gone", "yes"),)
    create_rule(region, RuleRequest(ResourceType.SNAPSHOT, 365, "kept", resource_tags=pair))
    create_rule(region, RuleRequest(ResourceType.VOLUME, 7, resource_tags=pair))
    delete_snapshots(region, [binned])


def _volumes_of_all_kinds(store: FullStore, region: Region) -> None:
    origin = store.take(region, of="volumes")
    names = []
    for tags in ({"state": "lazy"}, {"state": "part"}, {"state": "whole"}, {"gone": "yes"}):
        store.clock.advance(60)
        volume = create_volume(
            region, VolumeOptions(snapshot=origin, tags=tags, first=[(0, 9000)])
        )
        store.note(volume.volume_id, store.disk)
        names.append(volume.volume_id)
    _, part, whole, gone = names
    _write_to(store, region, part, loads=False)
    _write_to(store, region, whole, loads=True)
    remove_volume(region, gone)
    instance = create_instance(region, "a machine")
    attach_to_instance(region, part, instance.instance_id, "/dev/sda")


def _write_to(store: FullStore, region: Region, volume_id: VolumeId, *, loads: bool) -> None:
    """Read and write parts of a volume, and load it whole if it *loads*."""
    data = bytearray(store.disk)
    with open_volume(region, volume_id, "test", hydrates=loads) as opened:
        if opened.hydrator is not None:
            assert opened.hydrator.wait(60)
        opened.device.read_at(2 * BLOCK, memoryview(bytearray(3 * BLOCK)))
        for at, size in ((5 * BLOCK + 17, 100), (50 * BLOCK, 2 * BLOCK)):
            data[at : at + size] = store.random.randbytes(size)
            opened.device.write_at(at, data[at : at + size])
        opened.device.flush()
    store.note(volume_id, data)


def _direct_snapshots(store: FullStore, region: Region) -> None:
    with access_to(region) as access:
        plane = Plane(region, access)
        completed = plane.make(PUTS)
        store.clock.advance(60)
        pending = plane.start(completed)
        plane.put(pending, PENDING_PUTS)
    store.puts[completed] = PUTS
    store.puts[pending] = PUTS | PENDING_PUTS


def _policy(store: FullStore, region: Region) -> None:
    """A policy that takes a snapshot of one volume a day, and has taken one."""
    schedule = {
        "Name": "daily",
        "CreateRule": {"Interval": 24, "IntervalUnit": "HOURS", "Times": ["03:00"]},
        "RetainRule": {"Count": 3},
    }
    document = {
        "ResourceTypes": ["VOLUME"],
        "TargetTags": [{"Key": "state", "Value": "lazy"}],
        "Schedules": [schedule],
    }
    policy = create_policy(region, PolicyOptions(document=document, description="every night"))
    store.clock.advance(DAY)
    run = run_policy(region, policy, store.region)
    assert (len(run.created), run.failures) == (1, [])
    store.disks[run.created[0]] = store.disks[_lazy_volume(region)]


def _lazy_volume(region: Region) -> str:
    (lazy,) = (
        volume["volume_id"]
        for volume in records_of(region)["volumes"]
        if volume.get("tags") == {"state": "lazy"}
    )
    return str(lazy)


def _copies(store: FullStore) -> None:
    with store.region() as region, store.region(OTHER_REGION) as other:
        store.new_disk(300 * KIB)
        taken = store.take(region, copied="yes")
        copied = copy_snapshot(
            other, region, taken, CopyOptions(description="a copy", thread_count=1)
        )
        store.note(copied.snapshot.snapshot_id, store.disk)


def main() -> None:
    """Write archive and contents beside this file."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as images:
        home = Path(folder) / "home"
        contents = make_store(home, Path(images) / "disk")
        with tarfile.open(ARCHIVE, "w:xz") as archive:
            for path in sorted(home.rglob("*")):
                if path.name != LOCK:
                    add(archive, path, str(path.relative_to(home)))
    CONTENTS.write_text(json.dumps(contents, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
