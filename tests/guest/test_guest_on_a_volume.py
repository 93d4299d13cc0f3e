"""A virtual machine that boots from a lazy volume over NBD."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from tests.cli.in_process import CommandLine
from tests.cli.processes import run_ebsim
from tests.guest.small_linux import SmallLinux, file_on_disk, make_disk
from tests.tools import require_tool, run

MIB = 1 << 20
PAGE = 4096

INIT = """#!/bin/busybox sh
cd /
/bin/busybox sha256sum -c sums && echo all is as it was
/bin/busybox seq 1 200000 > written
/bin/busybox dd if=data of=changed bs=4096 skip=10 seek=100 count=50 conv=notrunc
/bin/busybox sync
/bin/busybox mount -o remount,ro /
/bin/busybox poweroff -f
"""
"""What the guest does: it checks what it was given, writes, and ends."""


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Where sockets are: their paths must be short."""
    folder = Path(tempfile.mkdtemp(prefix="ebsim-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def linux(tmp_path: Path) -> SmallLinux:
    return SmallLinux(tmp_path)


@pytest.fixture
def disk(tmp_path: Path, linux: SmallLinux) -> Path:
    """A disk with a system on it, some data, and the data's checksums."""
    tree = tmp_path / "tree"
    for name in ("bin", "sbin", "dev"):
        (tree / name).mkdir(parents=True)
    shutil.copy(linux.busybox, tree / "bin" / "busybox")
    (tree / "sbin" / "init").write_text(INIT)
    (tree / "sbin" / "init").chmod(0o755)
    for seed, name in enumerate(("data", "changed")):
        (tree / name).write_bytes(Random(seed).randbytes(4 * MIB))
    sums = [f"{sha256((tree / n).read_bytes()).hexdigest()}  {n}\n" for n in ("data", "changed")]
    (tree / "sums").write_text("".join(sums))
    path = tmp_path / "disk.img"
    make_disk(path, tree, size_mib=64)
    return path


@pytest.mark.slow
def test_what_a_guest_finds_is_the_snapshot_and_what_it_writes_is_in_the_next(
    tmp_path: Path,
    linux: SmallLinux,
    disk: Path,
    runtime: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is loaded in the background: all that the guest reads is fetched for it."""
    ebsim = CommandLine(tmp_path / "home", capsys)
    golden = ebsim.told("--quiet", "snapshot", "create", str(disk))
    volume_id = ebsim.told("volume", "create", "--snapshot", golden)
    ebsim.told("--quiet", "snapshot", "rm", golden)
    attached = run_ebsim(
        "volume", "attach", volume_id, "--detach-process", "--initialization-rate", "1",
        home=ebsim.home, XDG_RUNTIME_DIR=str(runtime),
    )  # fmt: skip
    assert attached.returncode == 0, attached.stderr
    try:
        ebsim.told("volume", "pause", volume_id)
        console = linux.boot(attached.stdout.strip())
        taken = ebsim.told("--quiet", "snapshot", "create", volume_id)
        volume = json.loads(ebsim.told("--output", "json", "volume", "show", volume_id))
    finally:
        ebsim.told("volume", "detach", volume_id)

    assert "all is as it was" in console
    assert not volume["StandsAlone"]
    assert volume["PresentBytes"] > 8 * MIB
    restored = tmp_path / "restored.img"
    ebsim.told("--quiet", "restore", taken, str(restored))
    run(require_tool("e2fsck", package="e2fsprogs"), "-fn", restored)
    expected = bytearray(Random(1).randbytes(4 * MIB))
    data = Random(0).randbytes(4 * MIB)
    expected[100 * PAGE : 150 * PAGE] = data[10 * PAGE : 60 * PAGE]
    assert file_on_disk(restored, "changed", tmp_path / "changed") == expected
    assert file_on_disk(restored, "data", tmp_path / "data") == data
    lines = file_on_disk(restored, "written", tmp_path / "written").splitlines()
    assert lines == [str(number).encode() for number in range(1, 200_001)]
