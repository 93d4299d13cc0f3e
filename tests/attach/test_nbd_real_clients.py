"""The clients that people use: libnbd's, qemu's and fio's."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.attach.nbd_client import Served, serving
from tests.attach.nbd_devices import FileDevice, MemoryDevice
from tests.tools import lacking, require_fuse, require_tool, run

SIZE = 8 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A file of data, a hole, and data."""
    path = tmp_path / "disk.raw"
    random = Random(7)
    path.write_bytes(random.randbytes(3 << 20) + bytes(2 << 20) + random.randbytes(3 << 20))
    return path


@pytest.fixture(params=["prompt", "workers"])
def served(request: pytest.FixtureRequest, disk: Path) -> Iterator[Served]:
    """The disk, served on the spot as far as possible, or by workers alone."""
    device = FileDevice(disk) if request.param == "prompt" else MemoryDevice(SIZE)
    if isinstance(device, MemoryDevice):
        device.content[:] = disk.read_bytes()
    with serving(device) as served:
        served.server.listen_unix(disk.with_name("socket"))
        yield served
    if isinstance(device, FileDevice):
        device.close()


def uri(served: Served) -> str:
    return served.server.uris("disk")[0]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_nbdinfo_sees_the_export_and_its_features(served: Served) -> None:
    nbdinfo = require_tool("nbdinfo", package="libnbd-bin")
    (told,) = json.loads(run(nbdinfo, "--json", uri(served)))["exports"]
    assert told["export-name"] == "disk"
    assert told["export-size"] == SIZE
    assert told["description"] == "a disk"
    for feature in ("df", "fast_zero", "flush", "fua", "multi_conn", "trim", "zero"):
        assert told[f"can_{feature}"], feature
    assert (told["block_size_minimum"], told["block_size_preferred"]) == (1, 4096)
    assert told["block_size_maximum"] == 32 << 20


def test_nbdinfo_lists_what_there_is(served: Served) -> None:
    nbdinfo = require_tool("nbdinfo", package="libnbd-bin")
    path = uri(served).partition("socket=")[2]
    listed = json.loads(run(nbdinfo, "--json", "--list", f"nbd+unix:///?socket={path}"))
    assert [export["export-name"] for export in listed["exports"]] == ["disk"]


def test_nbdinfo_maps_holes_and_what_was_written(disk: Path) -> None:
    nbdinfo = require_tool("nbdinfo", package="libnbd-bin")
    device = MemoryDevice(SIZE)
    device.content[1 << 20 : 2 << 20] = b"x" * (1 << 20)
    with serving(device) as served:
        served.server.listen_unix(disk.with_name("socket"))
        allocated = json.loads(run(nbdinfo, "--map", "--json", uri(served)))
        dirty = json.loads(run(nbdinfo, "--map=ebsim:dirty", "--json", uri(served)))
    assert [(r["offset"], r["length"], r["type"]) for r in allocated] == [
        (0, 1 << 20, 3),
        (1 << 20, 1 << 20, 0),
        (2 << 20, 6 << 20, 3),
    ]
    assert [(r["length"], r["type"]) for r in dirty] == [(1 << 20, 0), (1 << 20, 1), (6 << 20, 0)]


def test_nbdcopy_reads_and_writes_over_several_connections(served: Served, tmp_path: Path) -> None:
    nbdcopy = require_tool("nbdcopy", package="libnbd-bin")
    before, new, after = (tmp_path / name for name in ("before", "new", "after"))
    disk = tmp_path / "disk.raw"
    expected = digest(disk.read_bytes())
    run(nbdcopy, uri(served), before)
    assert digest(before.read_bytes()) == expected
    new.write_bytes(Random(8).randbytes(SIZE))
    run(nbdcopy, "--connections=4", "--flush", new, uri(served))
    run(nbdcopy, uri(served), after)
    assert digest(after.read_bytes()) == digest(new.read_bytes())


def test_qemu_img_converts_compares_maps_and_benches(served: Served, tmp_path: Path) -> None:
    qemu_img = require_tool("qemu-img", package="qemu-utils")
    disk, copy = tmp_path / "disk.raw", tmp_path / "copy.raw"
    run(qemu_img, "convert", "-f", "raw", "-O", "raw", uri(served), copy)
    assert copy.read_bytes() == disk.read_bytes()
    run(qemu_img, "compare", "-f", "raw", "-F", "raw", uri(served), copy)
    mapped = json.loads(run(qemu_img, "map", "--output=json", "-f", "raw", uri(served)))
    assert sum(piece["length"] for piece in mapped) == SIZE
    run(qemu_img, "bench", "-f", "raw", "-w", "-c", "500", "-d", "16", "--flush-interval=64",
        uri(served))  # fmt: skip
    run(qemu_img, "convert", "-n", "-f", "raw", "-O", "raw", copy, uri(served))
    run(qemu_img, "compare", "-f", "raw", "-F", "raw", uri(served), copy)


def test_qemu_io_writes_zeroes_discards_and_reads_back(served: Served) -> None:
    qemu_io = require_tool("qemu-io", package="qemu-utils")
    steps = [
        "write -P 0x5a 1000 100000",
        "write -f -P 0x5b 200000 4097",
        "write -z 50000 1000",
        "write -z -u 60000 1000",
        "discard 4194304 1048576",
        "flush",
        "read -P 0x5a 1000 49000",
        "read -P 0 50000 1000",
        "read -P 0 60000 1000",
        "read -P 0x5b 200000 4097",
        "read -P 0 4194304 1048576",
        "aio_write -P 0x11 0 65536",
        "aio_write -P 0x12 65536 65536",
        "aio_flush",
        "read -P 0x11 0 65536",
        "read -P 0x12 65536 65536",
    ]
    commands = [part for step in steps for part in ("-c", step)]
    told = run(qemu_io, "-f", "raw", "--cache=none", "-d", "unmap", *commands, uri(served))
    assert "verification failed" not in told
    assert "error" not in told.lower()


@pytest.mark.slow
def test_fio_verifies_what_it_wrote(served: Served, tmp_path: Path) -> None:
    fio = require_tool("fio", package="fio")
    if "nbd" not in run(fio, "--enghelp").split():
        lacking("fio was built without its nbd engine")
    done = subprocess.run(
        [fio, "--name=verify", "--ioengine=nbd", f"--uri={uri(served)}", f"--size={SIZE}",
         "--rw=randrw", "--bsrange=512-256k", "--blockalign=512", "--iodepth=16",
         "--verify=crc32c", "--verify_fatal=1", "--fsync=64", "--trim_percentage=0",
         "--randseed=1"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verify:" not in done.stderr


def test_nbdfuse_shows_it_as_a_file(served: Served, tmp_path: Path) -> None:
    nbdfuse = require_tool("nbdfuse", package="libnbd-bin")
    require_fuse()
    folder = tmp_path / "mounted"
    folder.mkdir()
    ready = tmp_path / "pid"
    os.mkfifo(ready)
    child = subprocess.Popen([nbdfuse, "-P", ready, folder / "disk", uri(served)])
    try:
        with ready.open():  # it opens the other end when the mount is there
            pass
        content = (folder / "disk").read_bytes()
    finally:
        subprocess.run(["fusermount3", "-u", folder], check=False)
        child.wait()
    assert content == (tmp_path / "disk.raw").read_bytes()
