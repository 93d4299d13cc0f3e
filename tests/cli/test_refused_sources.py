"""Disks that cannot be snapshotted: told in one line, and nothing is changed."""

import json
import os
import signal
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random

import pytest

from ebsim.cli.exit_codes import ExitCode
from ebsim.sources.raw_file import RawFile
from tests.cli.conftest import MIB, Store
from tests.cli.processes import command, environment, run_ebsim
from tests.cli.refusals import (
    assert_refused,
    assert_whole,
    listed_ids,
    run_unprivileged,
    unchanged,
)
from tests.sources.conftest import loop_device, mount
from tests.tidy.source_tree import ROOT
from tests.tools import require_root, require_tool, run


def make_missing(path: Path) -> None:
    del path


def make_empty(path: Path) -> None:
    path.touch()


SOURCES = [
    (make_missing, "does not exist"),
    (Path.mkdir, "is a directory, not a disk"),
    (make_empty, "is empty"),
    (os.mkfifo, "is a named pipe"),
    (lambda path: path.symlink_to("/dev/null"), "/dev/null is a character device"),
    (lambda path: path.symlink_to(path), "cannot be opened"),
]


@pytest.mark.parametrize(("make", "part"), SOURCES, ids=[part for _, part in SOURCES])
def test_what_is_no_disk_is_refused(make, part: str, store: Store) -> None:
    source = store.work / "source.img"
    make(source)
    with unchanged(store.home):
        done = run_ebsim("snapshot", "create", str(source), home=store.home)
    assert_refused(done, ExitCode.SOURCE_UNUSABLE, part)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("missing.img",), ExitCode.SOURCE_UNUSABLE),
        (("vol-0123456789abcdef0",), ExitCode.NOT_FOUND),
        (("pyproject.toml", "--block-size", "5000"), ExitCode.INVALID_REQUEST),
        (("pyproject.toml", "--format", "qcow2"), ExitCode.SOURCE_UNUSABLE),
        (("-", "--tag", "aws:a=b"), ExitCode.INVALID_REQUEST),
    ],
)
def test_a_first_snapshot_that_is_refused_makes_no_store(
    arguments: tuple[str, ...], code: ExitCode, tmp_path: Path
) -> None:
    done = run_ebsim("snapshot", "create", *arguments, home=tmp_path / "home")
    assert_refused(done, code)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_may_not_be_read_is_refused(store: Store) -> None:
    source = store.work / "secret.img"
    source.write_bytes(b"x" * 4096)
    source.chmod(0)
    with unchanged(store.home):
        done = run_unprivileged("snapshot", "create", str(source), home=store.home)
    assert_refused(done, ExitCode.SOURCE_UNUSABLE, str(source), "Permission denied")


def test_a_store_s_own_file_is_refused(store: Store) -> None:
    (pack,) = (store.home / "regions" / "us-east-1" / "packs").iterdir()
    with unchanged(store.home):
        done = run_ebsim("snapshot", "create", str(pack), home=store.home)
    assert_refused(done, ExitCode.SOURCE_UNUSABLE, f"lies in the ebsim home {store.home}")


def require_no_clones(source: Path) -> None:
    """Where files can share blocks a clone is read, and no change to the file is seen."""
    with closing(RawFile(source)) as opened:
        if opened.is_point_in_time:
            pytest.skip("the temporary files are where a file can be cloned")


def test_a_disk_that_shrinks_while_it_is_read_gives_no_snapshot(store: Store) -> None:
    """The process is stopped once the first pack is being written, in the midst of reading."""
    require_no_clones(store.image)
    source = store.work / "large.img"
    noise = Random(4).randbytes(16 * MIB)
    with source.open("wb") as file:
        for index in range(12):
            file.write(bytes([index]) + noise)
    packs = store.home / "regions" / "us-east-1" / "packs"
    with subprocess.Popen(
        command("snapshot", "create", str(source), "--block-size", "4K"), cwd=ROOT,
        env=environment(store.home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while process.poll() is None and len(list(packs.iterdir())) == 1:
            pass
        process.send_signal(signal.SIGSTOP)
        os.truncate(source, MIB)
        process.send_signal(signal.SIGCONT)
        out, error = process.communicate()
    done = subprocess.CompletedProcess(process.args, process.returncode, out, error)
    assert_refused(done, ExitCode.SOURCE_UNUSABLE, "shrank while it was read", "Nothing was made")
    assert listed_ids(store.home) == [store.snapshot_id]
    assert_whole(store.home)


def test_a_disk_that_changes_while_it_is_read_is_told_on_the_snapshot(store: Store) -> None:
    """A warning on standard error, also when quiet; the same sentence stays with it."""
    require_no_clones(store.image)
    source = store.work / "busy.img"
    source.write_bytes(Random(4).randbytes(64 * MIB))
    packs = store.home / "regions" / "us-east-1" / "packs"
    with subprocess.Popen(
        command("-q", "snapshot", "create", str(source)), cwd=ROOT,
        env=environment(store.home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while process.poll() is None and len(list(packs.iterdir())) == 1:
            pass
        process.send_signal(signal.SIGSTOP)
        with source.open("r+b") as file:
            file.write(b"x")
        process.send_signal(signal.SIGCONT)
        out, error = process.communicate()
    assert process.returncode == 0, error
    assert error == (
        f"ebsim: warning: {source}: {source} changed while it was read: "
        "its modification time changed.\n"
    )
    shown = run_ebsim("snapshot", "show", out.strip(), home=store.home).stdout
    assert "changed while it was read" in shown


@pytest.mark.xdist_group("loop_devices")
def test_a_disk_that_is_mounted_is_snapshotted_with_a_warning(
    store: Store, stack: ExitStack
) -> None:
    require_root()
    source = store.work / "mounted.img"
    with source.open("wb") as file:
        file.truncate(8 * MIB)
    run(require_tool("mke2fs", package="e2fsprogs"), "-q", source)
    folder = mount(stack, loop_device(stack, source), store.home.parent / "mounted")
    done = run_ebsim("-q", "--output", "json", "snapshot", "create", str(source), home=store.home)
    assert done.returncode == 0, done.stderr
    message = json.loads(done.stdout)["StateMessage"]
    assert f"mounted read-write at {folder}" in message
    assert done.stderr == f"ebsim: warning: {source}: {message}\n"


@pytest.mark.parametrize(
    ("name", "code", "part"),
    [
        ("vol-0123456789abcdef0", ExitCode.NOT_FOUND, "ebsim volume ls"),
        ("vol-0123", ExitCode.NOT_FOUND, "ebsim volume ls"),
        ("vol-xyz", ExitCode.SOURCE_UNUSABLE, "vol-xyz does not exist"),
    ],
)
def test_a_volume_that_is_unknown_or_malformed_is_refused(
    name: str, code: ExitCode, part: str, store: Store
) -> None:
    with unchanged(store.home):
        done = run_ebsim("snapshot", "create", name, home=store.home)
    assert_refused(done, code, part)


def test_an_unknown_volume_for_standard_input_is_refused(store: Store) -> None:
    with unchanged(store.home):
        done = run_ebsim(
            "snapshot", "create", "-", "--volume", "vol-0123456789abcdef0", home=store.home
        )
    assert_refused(done, ExitCode.NOT_FOUND, "ebsim volume ls")


def test_a_volume_whose_disk_is_gone_is_refused(store: Store) -> None:
    store.image.unlink()
    with unchanged(store.home):
        done = run_ebsim("snapshot", "create", store.volume_id, home=store.home)
    assert_refused(done, ExitCode.SOURCE_UNUSABLE, f"{store.image} does not exist")


@pytest.mark.parametrize("block_size", ["0", "5000", "2K", "8M", "3M"])
def test_a_block_size_that_cannot_be_is_refused(block_size: str, store: Store) -> None:
    with unchanged(store.home):
        done = run_ebsim(
            "snapshot", "create", str(store.image), "--block-size", block_size, home=store.home
        )
    assert_refused(done, ExitCode.INVALID_REQUEST, "power of two from 4 KiB to 4 MiB")


def test_a_block_size_other_than_the_volume_s_is_refused(store: Store) -> None:
    with unchanged(store.home):
        done = run_ebsim(
            "snapshot", "create", str(store.image), "--block-size", "4K", home=store.home
        )
    assert_refused(done, ExitCode.INVALID_REQUEST, store.volume_id, "512 KiB", "4.00 KiB")
