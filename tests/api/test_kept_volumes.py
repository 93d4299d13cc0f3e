"""Volumes that ``ebsim serve`` has open: real NBD clients on what boto3 attached."""

import json
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.api.regions import Regions
from ebsim.catalog.volume import Volume
from ebsim.cli.kept_volumes import KeptVolumes
from ebsim.clock import SystemClock
from ebsim.durable_files import Files
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.home import region_path
from ebsim.engine.instances import attach_to_instance, create_instance, show_instance
from ebsim.engine.list_volumes import show_volume
from ebsim.engine.open_volume import serving_facts, volume_folder
from ebsim.engine.region import Region
from ebsim.engine.served_volume import detach_volume
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.volume_status import VolumeStatus, volume_status
from ebsim.ids import SnapshotId
from ebsim.volumes.volume_folder import VolumeFolder
from ebsim.waiting import wait_until
from tests.api.conftest import ACCOUNT, REGION, Serving
from tests.api.direct_clients import download, wait_for
from tests.cli.processes import run_ebsim
from tests.tools import require_tool, run

Serve = Callable[..., Serving]

pytestmark = pytest.mark.slow

MIB = 1 << 20
ZONE = "us-east-1a"
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A runtime directory of the test's own; a socket's path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="ebsim-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield
    left = list(folder.glob("ebsim/*.sock"))
    shutil.rmtree(folder)
    assert left == []


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(Random(3).randbytes(8 * MIB))
    return path


@dataclass
class Machine:
    """A server, and an instance in it."""

    server: Serving
    ec2: Any
    instance_id: str

    def volume_of(self, image: Path, **options: Any) -> str:
        """A volume of a snapshot of *image*."""
        taken = run_ebsim("snapshot", "create", str(image), home=self.server.home).stdout.strip()
        made = self.ec2.create_volume(AvailabilityZone=ZONE, SnapshotId=taken, **options)
        return str(made["VolumeId"])

    def attach(self, volume_id: str, device: str = "/dev/sdf") -> str:
        """Attach the volume; the URI at which it is served then."""
        self.ec2.attach_volume(VolumeId=volume_id, InstanceId=self.instance_id, Device=device)
        return uri_of(self.server, volume_id)

    def snapshot_of(self, volume_id: str) -> dict[int, bytes]:
        """The blocks of a snapshot that is taken now."""
        made = self.ec2.create_snapshot(VolumeId=volume_id)["SnapshotId"]
        wait_for(self.ec2, made)
        return download(self.server.client("ebs"), made)

    def progress(self, volume_id: str) -> int:
        (status,) = self.ec2.describe_volume_status(VolumeIds=[volume_id])["VolumeStatuses"]
        return int(status["InitializationStatusDetails"]["Progress"])


@pytest.fixture
def machine(serve: Serve) -> Machine:
    server = serve()
    ec2 = server.client("ec2")
    ran = ec2.run_instances(ImageId="ami-0123456789abcdef0", MinCount=1, MaxCount=1)
    return Machine(server, ec2, ran["Instances"][0]["InstanceId"])


def opened_by(server: Serving, volume_id: str) -> dict[str, Any]:
    """Who has the volume open; nobody is empty."""
    folder = VolumeFolder(Files(), region_path(server.home, REGION) / "volumes" / volume_id)
    return serving_facts(folder) if folder.is_open() else {}


def is_served_by(server: Serving, volume_id: str) -> bool:
    facts = opened_by(server, volume_id)
    return facts.get("pid") == server.process.pid and bool(facts.get("uris"))


def uri_of(server: Serving, volume_id: str) -> str:
    """Where the volume is served, now or soon."""
    assert wait_until(lambda: bool(opened_by(server, volume_id).get("uris")), PATIENCE)
    (uri,) = opened_by(server, volume_id)["uris"]
    return str(uri)


def volume_ids(ec2: Any) -> list[str]:
    return [one["VolumeId"] for one in ec2.describe_volumes()["Volumes"]]


def shown(server: Serving, volume_id: str) -> dict[str, Any]:
    """What ``ebsim volume show`` tells."""
    done = run_ebsim("--output", "json", "volume", "show", volume_id, home=server.home)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def qemu_io(uri: str, *commands: str) -> None:
    words = [word for command in commands for word in ("-c", command)]
    run(require_tool("qemu-io", package="qemu-utils"), "-f", "raw", *words, uri)


def read(uri: str, target: Path) -> bytes:
    """What nbdcopy reads of the volume's first 8 MiB, which are all that a snapshot had."""
    run(require_tool("nbdcopy", package="libnbd-bin"), uri, target)
    with target.open("rb") as file:
        return file.read(8 * MIB)


@contextmanager
def written_all_the_while(uri: str) -> Iterator[None]:
    """A client that fills the volume's second MiB with one byte after the other."""
    over = threading.Event()

    def write() -> None:
        byte = 0
        while not over.is_set():
            byte = byte % 255 + 1
            qemu_io(uri, f"write -P {byte} {MIB} {MIB}")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            yield
        finally:
            over.set()
        writing.result()


def test_an_attached_volume_is_read_written_and_snapshotted_while_it_is_written(
    machine: Machine, image: Path, tmp_path: Path
) -> None:
    volume_id = machine.volume_of(image)
    uri = machine.attach(volume_id)

    assert shown(machine.server, volume_id)["OpenedBy"]["Uris"] == [uri]
    assert read(uri, tmp_path / "copy") == image.read_bytes()
    qemu_io(uri, f"write -P 7 {4 * MIB + 512} 512", "flush")
    with written_all_the_while(uri):
        blocks = machine.snapshot_of(volume_id)

    expected = bytearray(image.read_bytes())
    expected[4 * MIB + 512 : 4 * MIB + 1024] = b"\x07" * 512
    now = b"".join(blocks[index] for index in range(16))
    assert now[:MIB] == expected[:MIB]
    assert now[2 * MIB :] == expected[2 * MIB :]
    assert blocks.keys() == set(range(16))
    later = machine.snapshot_of(volume_id)
    assert later[2] + later[3] == read(uri, tmp_path / "copy")[MIB : 2 * MIB]


def test_attached_volumes_are_served_again_after_an_end_and_after_a_kill(
    machine: Machine, serve: Serve, image: Path, tmp_path: Path
) -> None:
    volume_id = machine.volume_of(image)
    uri = machine.attach(volume_id)
    expected = bytearray(image.read_bytes())
    ends: list[Callable[[Serving], object]] = [
        lambda server: server.stop(),
        lambda server: (server.process.send_signal(signal.SIGKILL), server.process.communicate()),
    ]
    server = machine.server
    for byte, end in enumerate(ends, 1):
        qemu_io(uri, f"write -P {byte} {byte * 512} 512", "flush")
        expected[byte * 512 : byte * 512 + 512] = bytes([byte]) * 512
        end(server)
        server = serve()

        # What a killed server said of itself is there until somebody else says more.
        assert wait_until(lambda: is_served_by(server, volume_id), PATIENCE)  # noqa: B023 (now)
        assert uri_of(server, volume_id) == uri
        assert read(uri, tmp_path / "copy") == expected
    checked = run_ebsim("store", "check", home=server.home)
    assert checked.returncode == 0, checked.stdout


def test_what_is_made_of_a_snapshot_is_loaded_and_what_is_let_go_of_is_closed(
    machine: Machine, image: Path
) -> None:
    ec2, server = machine.ec2, machine.server
    volume_id = machine.volume_of(image, VolumeInitializationRate=100)
    assert wait_until(lambda: machine.progress(volume_id) == 100, PATIENCE)
    assert wait_until(lambda: not opened_by(server, volume_id), PATIENCE)

    machine.attach(volume_id)
    assert opened_by(server, volume_id)["pid"] == server.process.pid
    ec2.detach_volume(VolumeId=volume_id)
    assert opened_by(server, volume_id) == {}
    machine.attach(volume_id)
    ec2.modify_instance_attribute(
        InstanceId=machine.instance_id,
        BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"DeleteOnTermination": True}}],
    )
    ec2.terminate_instances(InstanceIds=[machine.instance_id])
    assert volume_id not in volume_ids(ec2)

    ran = ec2.run_instances(
        ImageId="ami-0123456789abcdef0",
        MinCount=1,
        MaxCount=1,
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 1}}],
    )
    (instance,) = ran["Instances"]
    made = instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    uri_of(server, made)
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    assert made not in volume_ids(ec2)


def test_a_volume_that_another_process_serves_is_left_to_it(machine: Machine, image: Path) -> None:
    server = machine.server
    volume_id = machine.volume_of(image)
    shell = run_ebsim("volume", "attach", volume_id, "--detach-process", home=server.home)
    assert shell.returncode == 0, shell.stderr
    theirs = opened_by(server, volume_id)

    assert machine.attach(volume_id) == shell.stdout.strip()

    assert opened_by(server, volume_id) == theirs
    assert theirs["pid"] != server.process.pid
    run_ebsim("volume", "detach", volume_id, home=server.home)
    assert machine.attach(volume_id) == shell.stdout.strip()
    assert opened_by(server, volume_id)["pid"] == server.process.pid


# In this process: how many there may be at once


@dataclass
class Kept:
    """What keeps the volumes of a region, an instance's and others."""

    region: Region
    snapshot_id: SnapshotId
    told: list[str]
    kept: KeptVolumes

    def made(self, count: int, rate: int | None = None) -> list[Volume]:
        options = VolumeOptions(self.snapshot_id, initialization_rate=rate)
        return [create_volume(self.region, options) for _ in range(count)]

    def attached(self, volume: Volume) -> None:
        self.attach(volume)
        self.kept.look_after(REGION, [volume.volume_id])

    def attach(self, volume: Volume) -> None:
        device = "fghij"[len(show_instance(self.region, "vm").volumes)]
        attach_to_instance(self.region, volume.volume_id, "vm", f"/dev/sd{device}")

    def status(self, volume: Volume) -> VolumeStatus:
        return volume_status(self.region, show_volume(self.region, volume.volume_id))

    def is_loaded(self, volume: Volume) -> bool:
        return self.status(volume).stands_alone


@pytest.fixture
def kept(tmp_path: Path, image: Path) -> Iterator[Kept]:
    """At most two volumes are served, and one attached one is loaded at a time."""
    told: list[str] = []
    regions = Regions(tmp_path / "home", Files(), SystemClock(), Random(1), tell_bug=told.append)
    with closing(regions):
        region = replace(regions.region(REGION, create=True), account_id=ACCOUNT)
        options = SnapshotOptions(block_size=64 << 10)
        snapshot = create_snapshot(region, str(image), options)
        create_instance(region, "vm")
        keeper = KeptVolumes(regions, told.append, served_max=2, loading_max=1)
        try:
            yield Kept(region, snapshot.snapshot_id, told, keeper)
        finally:
            keeper.stop()


def test_loading_takes_turns_until_all_is_here(kept: Kept) -> None:
    attached, others = kept.made(2), kept.made(3)
    for volume in attached:
        kept.attached(volume)
    kept.kept.look_after(REGION, [volume.volume_id for volume in others])

    for volume in attached + others:
        assert wait_until(lambda: kept.is_loaded(volume), PATIENCE)  # noqa: B023 (called at once)
    assert kept.told == []


def test_a_volume_that_waits_for_its_turn_is_paused_and_served(kept: Kept) -> None:
    slow, waiting = kept.made(2, rate=1)
    kept.attached(slow)
    assert wait_until(lambda: kept.status(slow).hydration == "running", PATIENCE)
    kept.attached(waiting)

    assert kept.status(waiting).hydration == "paused"
    assert kept.status(waiting).uris
    detach_volume(kept.region, slow.volume_id)
    assert wait_until(lambda: kept.status(waiting).hydration == "running", PATIENCE)


def test_what_is_more_than_can_be_served_is_told_and_stays_attached(kept: Kept) -> None:
    volumes = kept.made(3)
    for volume in volumes:
        kept.attached(volume)

    (line,) = kept.told
    assert line.startswith(f"{volumes[2].volume_id} is attached and not served: 2 volumes are")
    assert kept.status(volumes[2]).state == "in-use"
    assert kept.status(volumes[2]).pid is None
    detach_volume(kept.region, volumes[0].volume_id)
    kept.kept.look_after(REGION, [volumes[2].volume_id])
    assert kept.status(volumes[2]).uris


def test_a_volume_that_cannot_be_opened_is_told_and_others_are_served(kept: Kept) -> None:
    bad, good = kept.made(2)
    kept.attach(bad)
    kept.attach(good)
    (volume_folder(kept.region, bad.volume_id).path / "state.json").write_bytes(b"{")

    kept.kept.start()

    assert wait_until(lambda: bool(kept.status(good).uris), PATIENCE)
    assert wait_until(lambda: bool(kept.told), PATIENCE)
    assert kept.told[0].startswith(f"{bad.volume_id} is attached and not served: ")
