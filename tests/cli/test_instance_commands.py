"""Instances, and the volumes that are attached to them by real processes."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from socket import AF_UNIX, socket

import pytest

from ebsim.cli.exit_codes import ExitCode
from tests.attach.nbd_client import RawClient
from tests.cli.conftest import Store
from tests.cli.in_process import CommandLine
from tests.cli.processes import run_ebsim
from tests.nbd.clients import READ, write

Attach = Callable[..., str]


@pytest.fixture
def ebsim(store: Store, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(store.home, capsys)


@pytest.fixture
def attach(ebsim: CommandLine, store: Store, stack: ExitStack) -> Attach:
    """A function that attaches a volume in a process of its own, and gives its URI."""

    def start(volume_id: str, *options: str) -> str:
        socket = store.work / volume_id[-4:]
        done = run_ebsim(
            "volume", "attach", volume_id, "--detach-process", "--socket", str(socket), *options,
            home=store.home, XDG_RUNTIME_DIR=str(store.work),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        stack.callback(ebsim.run, "volume", "detach", volume_id)
        return done.stdout.strip()

    return start


def test_an_instance_is_made_shown_and_removed(ebsim: CommandLine) -> None:
    instance_id = ebsim.told("instance", "create", "web")
    assert instance_id.startswith("i-")
    assert ebsim.told("instance", "ls").splitlines()[1].split()[0::2] == [instance_id, "-"]
    assert f"instance  {instance_id}" in ebsim.told("instance", "show", "web")
    (reservation,) = json.loads(ebsim.told("--output", "json", "instance", "ls"))["Reservations"]
    (found,) = reservation["Instances"]
    assert found["Tags"] == [{"Key": "Name", "Value": "web"}]
    assert found["BlockDeviceMappings"] == []
    assert ebsim.told("instance", "rm", "web") == instance_id
    assert ebsim.run("instance", "show", "web").returncode == ExitCode.NOT_FOUND


def test_an_instance_is_tagged(ebsim: CommandLine) -> None:
    instance_id = ebsim.told("instance", "create", "web")
    assert ebsim.told("instance", "tag", "web", "backup=daily", "env=test") == instance_id
    untagged = ebsim.told("--output", "json", "instance", "untag", instance_id, "env")
    assert json.loads(untagged) == {
        "InstanceId": instance_id,
        "Tags": [{"Key": "Name", "Value": "web"}, {"Key": "backup", "Value": "daily"}],
    }
    shown = json.loads(ebsim.told("--output", "json", "instance", "show", "web"))
    assert shown["Reservations"][0]["Instances"][0]["Tags"] == json.loads(untagged)["Tags"]
    assert ebsim.run("instance", "tag", "other", "a=b").returncode == ExitCode.NOT_FOUND


@pytest.mark.parametrize("name", ["", "i-0a1b", "a\nb"])
def test_a_name_that_cannot_be_one_is_refused(ebsim: CommandLine, name: str) -> None:
    assert ebsim.run("instance", "create", name).returncode == ExitCode.INVALID_REQUEST


@pytest.mark.parametrize("options", [("--instance", "web"), ("--device", "/dev/sdf")])
def test_a_place_is_an_instance_and_a_device(ebsim: CommandLine, options: tuple[str, ...]) -> None:
    done = ebsim.run("volume", "attach", "vol-0", *options)
    assert done.returncode == ExitCode.USAGE
    assert "go together" in done.stderr


@pytest.mark.slow
def test_volumes_of_an_instance_are_snapshotted_together_and_stay_until_detached(
    ebsim: CommandLine, store: Store, attach: Attach
) -> None:
    ebsim.told("instance", "create", "web")
    boot, data = (ebsim.told("volume", "create", "--snapshot", store.snapshot_id) for _ in "ab")
    uri = attach(boot, "--instance", "web", "--device", "/dev/sda1")
    attach(data, "--instance", "web", "--device", "/dev/sdf")

    shown = json.loads(ebsim.told("--output", "json", "volume", "show", boot))
    assert shown["State"] == "in-use"
    assert shown["Attachments"][0]["Device"] == "/dev/sda1"
    assert shown["OpenedBy"]["Uris"] == [uri]
    assert f"/dev/sda1={boot} /dev/sdf={data}" in ebsim.told("instance", "show", "web")

    for refused in (
        ("volume", "rm", boot),
        ("volume", "copy", boot),
        ("volume", "attach", boot),
        ("instance", "rm", "web"),
    ):
        done = ebsim.run(*refused)
        assert done.returncode == ExitCode.CONFLICT, refused
        assert boot in done.stderr

    def taken(*options: str) -> list[str]:
        told = ebsim.told("--output", "json", "snapshot", "create", "--instance", "web", *options)
        return [snapshot["VolumeId"] for snapshot in json.loads(told)["Snapshots"]]

    assert taken() == [boot, data]
    assert taken("--exclude-boot-volume") == [data]
    assert taken("--exclude-data-volume", data) == [boot]

    ebsim.told("volume", "resize", boot, "--size", "1")
    ebsim.told("volume", "detach", boot)
    shown = json.loads(ebsim.told("--output", "json", "volume", "show", boot))
    assert (shown["State"], shown["Attachments"], shown["Size"]) == ("available", [], 1)
    assert ebsim.told("volume", "rm", boot) == boot


@pytest.mark.slow
def test_a_place_that_is_taken_is_refused_and_nothing_is_served(
    ebsim: CommandLine, store: Store, attach: Attach
) -> None:
    """The background process's own message and exit code are the command's."""
    ebsim.told("instance", "create", "web")
    first, second = (ebsim.told("volume", "create", "--size", "1") for _ in "ab")
    attach(first, "--instance", "web", "--device", "/dev/sdf")
    for device, code in (
        ("/dev/sdf", ExitCode.CONFLICT),
        ("somewhere", ExitCode.INVALID_REQUEST),
    ):
        done = run_ebsim(
            "volume", "attach", second, "--detach-process", "--socket", str(store.work / "s"),
            "--instance", "web", "--device", device,
            home=store.home, XDG_RUNTIME_DIR=str(store.work),
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert done.stderr.startswith("ebsim: error: ")
        assert device in done.stderr
    assert json.loads(ebsim.told("--output", "json", "volume", "show", second))["State"] == (
        "available"
    )


@pytest.mark.slow
def test_a_second_process_is_refused_and_the_first_serves_on(
    ebsim: CommandLine, store: Store, attach: Attach
) -> None:
    volume_id = ebsim.told("volume", "create", "--snapshot", store.snapshot_id)
    uri = attach(volume_id)
    second = store.work / "second"
    done = run_ebsim("volume", "attach", volume_id, "--socket", str(second), home=store.home)
    opener = json.loads(ebsim.told("--output", "json", "volume", "show", volume_id))["OpenedBy"]
    assert (done.returncode, done.stdout) == (ExitCode.CONFLICT, "")
    assert done.stderr == (
        f"ebsim: error: {volume_id} is in use by process {opener['ProcessId']} (attach). "
        f"Nothing was changed. End that first: ebsim volume detach {volume_id}\n"
    )
    assert opener["Uris"] == [uri]
    assert not second.exists()
    with connected(uri.partition("socket=")[2]) as client:
        client.enter(name=volume_id.encode())
        assert client.ask(READ, 0, 4096).data == store.image.read_bytes()[:4096]


@pytest.mark.slow
def test_a_client_sees_the_snapshot_writes_and_finds_the_new_size(
    ebsim: CommandLine, store: Store, attach: Attach
) -> None:
    """What the client was told is written is in the snapshot taken meanwhile."""
    volume_id = ebsim.told("volume", "create", "--snapshot", store.snapshot_id)
    path = attach(volume_id).partition("socket=")[2]
    written = Random(5).randbytes(4096)
    with connected(path) as client:
        client.enter(name=volume_id.encode())
        assert client.ask(READ, 0, 1 << 20).data == store.image.read_bytes()[: 1 << 20]
        client.sock.sendall(write(8192, written))
        assert client.answer().error == 0
        snapshot_id = ebsim.told("--quiet", "snapshot", "create", volume_id)
        ebsim.told("volume", "resize", volume_id, "--size", "1")
    with connected(path) as client:
        client.enter(name=volume_id.encode())
        assert client.ask(READ, (1 << 30) - 512, 512).data == bytes(512)
    ebsim.told("restore", snapshot_id, str(store.work / "restored"))
    expected = bytearray(store.image.read_bytes())
    expected[8192 : 8192 + 4096] = written
    assert (store.work / "restored").read_bytes() == expected


@contextmanager
def connected(path: str) -> Iterator[RawClient]:
    with socket(AF_UNIX) as sock:
        sock.connect(path)
        yield RawClient(sock)
