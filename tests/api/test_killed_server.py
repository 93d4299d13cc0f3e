"""``kill -9`` of a server at work for many clients: what it acknowledged is there afterwards."""

import json
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from ebsim.catalog.event import Event
from ebsim.engine.region import Region, open_region
from ebsim.waiting import wait_until
from tests.api.clients import Credentials, code_of, make_client
from tests.api.conftest import ACCOUNT, REGION, Serving
from tests.api.direct_clients import complete, download, put, real_block, wait_for
from tests.cli.processes import run_ebsim
from tests.engine.store_audit import complaints_about
from tests.engine.stores import restored
from tests.engine.test_events import all_events

Serve = Callable[..., Serving]

pytestmark = pytest.mark.slow

SEED = 4
KILLS = 4
OTHER_REGION = "eu-west-1"
PATIENCE = 120.0
MAY_BE_REFUSED = {"ConcurrentSnapshotLimitExceeded", "ResourceLimitExceeded"}


class Clients(NamedTuple):
    """Those of a server: of blocks, of snapshots, and of snapshots in another region."""

    ebs: Any
    ec2: Any
    far: Any


@dataclass
class Scene:
    """What clients work on, and what a server told them that it had done.

    What somebody asked for and got no answer to may have been done, or not.
    """

    base_id: str
    volume_id: str
    written_id: str
    put: set[int] = field(default_factory=set)
    taken: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    deleting: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    indexes: Iterator[int] = field(default_factory=count)
    numbers: Iterator[int] = field(default_factory=count)

    def actions(self, clients: Clients) -> list[Callable[[], object]]:
        """What each client does again and again; ``False`` where there was nothing to do."""
        ebs, ec2, far = clients

        def put_block() -> None:
            index = next(self.indexes)
            put(ebs, self.written_id, index, real_block(index))
            self.put.add(index)

        def take() -> None:
            self.taken.append(ec2.create_snapshot(VolumeId=self.volume_id)["SnapshotId"])

        def upload() -> None:
            block = real_block(next(self.numbers) << 20)
            made = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
            put(ebs, made, 0, block)
            complete(ebs, made, {0: block})
            self.uploaded[made] = block

        def copy() -> None:
            made = far.copy_snapshot(SourceRegion=REGION, SourceSnapshotId=self.base_id)
            self.copied.append(made["SnapshotId"])

        def tag() -> None:
            key = f"key-{next(self.numbers) % 40}"
            value = str(next(self.numbers))
            self.tags.pop(key, None)
            ec2.create_tags(Resources=[self.base_id], Tags=[{"Key": key, "Value": value}])
            self.tags[key] = value

        def make_volume() -> None:
            self.made.append(ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"])

        def delete() -> bool:
            found = False
            for listed, forget in (
                (self.taken, lambda name: ec2.delete_snapshot(SnapshotId=name)),
                (self.made, lambda name: ec2.delete_volume(VolumeId=name)),
            ):
                gone = [name for name in listed[:-1] if name not in self.deleting]
                if gone:
                    self.deleting.append(gone[0])
                    forget(gone[0])
                    self.deleted.append(gone[0])
                    found = True
            return found

        return [put_block, put_block, put_block, take, upload, copy, tag, make_volume, delete]


def work_until_it_is_killed(
    server: Serving, actions: Sequence[Callable[[], object]], answer_count: int
) -> Counter[str]:
    """Let clients work; kill the server when all have, and so many answers were given.

    Returns how often each action was done.
    """
    names = {action.__name__ for action in actions}
    is_dead = threading.Event()
    done: Counter[str] = Counter()

    def work(action: Callable[[], object]) -> None:
        while not is_dead.is_set():
            try:
                if action() is False:
                    is_dead.wait(0.02)
                    continue
            except BotoCoreError:
                return
            except ClientError as error:
                if code_of(error) not in MAY_BE_REFUSED:
                    is_dead.set()
                    raise
                continue
            done[action.__name__] += 1
            if done.total() >= answer_count and names <= done.keys():
                is_dead.set()
                server.process.send_signal(signal.SIGKILL)

    with ThreadPoolExecutor(len(actions)) as pool:
        list(pool.map(work, actions))
    server.process.communicate(timeout=PATIENCE)
    assert server.process.returncode == -signal.SIGKILL
    return done


def snapshots_of(ec2: Any) -> dict[str, Any]:
    found = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    return {one["SnapshotId"]: one for one in found}


def check_acknowledged(clients: Clients, scene: Scene) -> None:
    """All of it is there, and what was pending has come to an end."""
    _, ec2, far = clients

    def has_ended() -> bool:
        found = {**snapshots_of(ec2), **snapshots_of(far)}
        names = {*scene.taken, *scene.copied, *scene.uploaded} & found.keys()
        return all(found[name]["State"] != "pending" for name in names)

    assert wait_until(has_ended, PATIENCE)
    near = snapshots_of(ec2)
    assert set(scene.taken) - set(scene.deleting) <= near.keys()
    assert set(scene.copied) <= snapshots_of(far).keys()
    assert {near[name]["State"] for name in scene.uploaded} == {"completed"}
    assert near.keys().isdisjoint(scene.deleted)
    tags = {one["Key"]: one["Value"] for one in near[scene.base_id]["Tags"]}
    assert scene.tags.items() <= tags.items()
    volumes = {one["VolumeId"] for one in ec2.describe_volumes()["Volumes"]}
    assert set(scene.made) - set(scene.deleting) <= volumes
    assert volumes.isdisjoint(scene.deleted)


def names_of(events: list[Event], resource: str) -> list[tuple[str, str]]:
    """Name and result of the events of a snapshot or volume, in order."""
    return [
        (event.detail["event"], event.detail["result"])
        for event in events
        if any(arn.endswith(f"/{resource}") for arn in event.resources)
    ]


def check_events(region: Region, scene: Scene, listed: dict[str, Any], *, of: str) -> None:
    """Everything that was acknowledged, or came to an end behind, has its event."""
    events = all_events(region)
    for name in scene.taken if of == "createSnapshot" else scene.copied:
        found = names_of(events, name)
        if name in listed:
            result = {"completed": "succeeded", "error": "failed"}[listed[name]["State"]]
            assert found == [(of, result)], name
        else:
            assert found[0][0] == of, name
            assert found[1:] == [("deleteSnapshot", "succeeded")], name
    for name in scene.uploaded if of == "createSnapshot" else []:
        assert names_of(events, name) == [(of, "succeeded")], name
    for name in scene.made if of == "createSnapshot" else []:
        found = [event for event, _ in names_of(events, name)]
        assert found[0] == "createVolume", name
        assert found[1:] == ["deleteVolume"] * (name in scene.deleted) or name in scene.deleting


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(Random(SEED).randbytes(4 << 20))
    return path


def made_scene(home: Path, clients: Clients, image: Path) -> Scene:
    base_id = run_ebsim("snapshot", "create", str(image), home=home).stdout.strip()
    volume_id = run_ebsim("volume", "create", "--snapshot", base_id, home=home).stdout.strip()
    written_id = clients.ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    return Scene(base_id, volume_id, written_id)


def test_what_was_acknowledged_outlives_kills_of_the_server(
    serve: Serve, image: Path, figure: Callable[[str], None]
) -> None:
    random = Random(SEED)
    log = image.with_name("log")
    server = serve()
    home = server.home
    found = server.variables()
    credentials = Credentials(found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"])

    def clients() -> Clients:
        make = partial(make_client, credentials=credentials, url=server.url)
        return Clients(make("ebs"), make("ec2"), make("ec2", region=OTHER_REGION))

    scene = made_scene(home, clients(), image)
    run_ebsim("events", "sink", "add", "log", "--log", str(log), "--from-beginning", home=home)
    done: Counter[str] = Counter()
    for _ in range(KILLS):
        actions = scene.actions(clients())
        done += work_until_it_is_killed(server, actions, random.randint(30, 90))
        server = serve()
        check_acknowledged(clients(), scene)

    ebs, ec2, far = clients()
    # A client that does not know what came of its last puts puts them again.
    blocks = {index: real_block(index) for index in range(next(scene.indexes))}
    for index in blocks.keys() - scene.put:
        put(ebs, scene.written_id, index, blocks[index])
    complete(ebs, scene.written_id, blocks)
    wait_for(ec2, scene.written_id)
    assert download(ebs, scene.written_id) == blocks
    for name, block in scene.uploaded.items():
        assert download(ebs, name) == {0: block}
    listed, far_listed = snapshots_of(ec2), snapshots_of(far)
    with closing(open_region(home, REGION, ACCOUNT)) as region:
        happened = [event.event_id for event in all_events(region)]
    assert wait_until(lambda: set(happened) <= set(ids_in(log)), PATIENCE)
    assert list(dict.fromkeys(ids_in(log))) == happened
    assert server.stop() == (0, "")

    for name, shown, of in (
        (REGION, listed, "createSnapshot"),
        (OTHER_REGION, far_listed, "copySnapshot"),
    ):
        with closing(open_region(home, name, ACCOUNT)) as region:
            check_events(region, scene, shown, of=of)
            assert complaints_about(region) == []
            for snapshot_id in set(scene.taken + scene.copied) & shown.keys():
                if shown[snapshot_id]["State"] == "completed":
                    assert restored(region, snapshot_id, home.parent) == image.read_bytes()
    states = Counter(one["State"] for one in [*listed.values(), *far_listed.values()])
    figure(f"{KILLS} kills, seed {SEED}, after {dict(done)}; snapshots: {dict(states)}")


def ids_in(log: Path) -> list[str]:
    if not log.exists():
        return []
    # A line that a kill cut off is written again, whole.
    whole = log.read_text().rpartition("\n")[0]
    return [json.loads(line)["id"] for line in whole.splitlines()]
