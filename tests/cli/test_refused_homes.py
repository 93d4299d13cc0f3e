"""Homes that cannot be used: told in one line, and nothing is changed."""

import json
import os
import shlex
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from ebsim.cli.exit_codes import ExitCode
from tests.cli.conftest import MIB, Store
from tests.cli.processes import command, environment, run_ebsim
from tests.cli.refusals import (
    assert_refused,
    assert_whole,
    listed_ids,
    run_unprivileged,
    unchanged,
)
from tests.tidy.source_tree import ROOT
from tests.tools import require_root, require_tool, run

ANY_COMMAND = [
    ("snapshot", "ls"),
    ("snapshot", "create", "pyproject.toml"),
    ("store", "check", "--repair"),
    ("store", "rebuild"),
]


@pytest.mark.parametrize("arguments", ANY_COMMAND, ids=" ".join)
@pytest.mark.parametrize(
    "marker",
    [
        {"format": 2, "features": []},
        {"format": 1, "features": ["encryption"]},
    ],
    ids=["format", "feature"],
)
def test_a_home_written_by_a_newer_ebsim_is_left_alone(
    marker: dict[str, object], arguments: tuple[str, ...], store: Store
) -> None:
    (store.home / "ebsim.json").write_text(json.dumps(marker))
    with unchanged(store.home):
        done = run_ebsim(*arguments, home=store.home)
    assert_refused(done, ExitCode.UNSUPPORTED_FORMAT, str(store.home), "Use a newer ebsim")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "\0"])
def test_a_home_whose_marker_is_nonsense_is_left_alone(text: str, store: Store) -> None:
    (store.home / "ebsim.json").write_text(text)
    with unchanged(store.home):
        done = run_ebsim("snapshot", "ls", home=store.home)
    assert_refused(done, ExitCode.UNSUPPORTED_FORMAT, "ebsim.json")


@pytest.mark.parametrize("place", ["inner", "regions/us-east-1", "regions/us-east-1/packs/x"])
def test_a_home_in_a_home_or_a_region_is_refused(place: str, store: Store) -> None:
    with unchanged(store.home):
        done = run_ebsim("snapshot", "create", "pyproject.toml", home=store.home / place)
    assert_refused(done, ExitCode.INVALID_REQUEST, f"lies inside the ebsim home {store.home}")


def test_a_home_below_a_link_into_a_home_is_refused(store: Store) -> None:
    below, link = store.home / "below", store.work / "link"
    below.mkdir()
    link.symlink_to(below)
    with unchanged(store.home):
        direct = run_ebsim("snapshot", "create", "pyproject.toml", home=link)
        deeper = run_ebsim("snapshot", "create", "pyproject.toml", home=link / "inner")
    for done in (direct, deeper):
        assert_refused(done, ExitCode.INVALID_REQUEST, "lies inside the ebsim home")


def test_a_home_where_none_can_be_made_is_refused(tmp_path: Path) -> None:
    done = run_ebsim("snapshot", "create", "pyproject.toml", home=Path("/proc/ebsim"))
    assert_refused(done, ExitCode.STORAGE_UNAVAILABLE, "/proc/ebsim")
    tmp_path.chmod(0o555)
    done = run_unprivileged("snapshot", "create", "pyproject.toml", home=tmp_path / "home")
    assert_refused(done, ExitCode.STORAGE_UNAVAILABLE, str(tmp_path / "home"), "Permission denied")


def test_a_store_on_a_network_file_system_is_refused(tmp_path: Path) -> None:
    """The process sees a mount table in which its home is on NFS."""
    require_root()
    require_tool("unshare", package="util-linux")
    table = tmp_path / "mountinfo"
    mounts = Path("/proc/self/mountinfo").read_text()
    table.write_text(f"{mounts}999 1 0:99 / {tmp_path} rw - nfs4 server:/export rw\n")
    home = tmp_path / "home"
    script = f'mount --bind {shlex.quote(str(table))} "/proc/$$/mountinfo" && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh",
         *command("snapshot", "create", "pyproject.toml")],
        cwd=ROOT, env=environment(home), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert_refused(done, ExitCode.INVALID_REQUEST, "nfs4", str(home))


@pytest.mark.xdist_group("loop_devices")
def test_a_full_disk_fails_a_snapshot_and_lets_deletions_through(
    store: Store, stack: ExitStack
) -> None:
    require_root()
    run("mount", "-t", "tmpfs", "-o", "size=24M", "tmpfs", store.work)
    stack.callback(run, "umount", store.work)
    home = store.work / "home"
    small = store.image
    large = store.home.parent / "large.img"
    large.write_bytes(os.urandom(32 * MIB))
    run_ebsim("snapshot", "create", str(small), str(small), home=home)
    before = listed_ids(home)
    assert len(before) == 2

    done = run_ebsim("snapshot", "create", str(large), home=home)

    assert_refused(done, ExitCode.STORAGE_FULL)
    assert listed_ids(home) == before
    assert_whole(home)
    filler = store.work / "filler"
    run("sh", "-c", f"cat /dev/zero > {shlex.quote(str(filler))} 2>/dev/null || true")
    deleted = run_ebsim("snapshot", "rm", before[0], home=home)
    assert (deleted.returncode, deleted.stdout.split()) == (0, [before[0]]), deleted.stderr
    filler.unlink()
    assert listed_ids(home) == before[1:]
    assert_whole(home)
