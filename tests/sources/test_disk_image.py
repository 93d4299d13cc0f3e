import os
import random
import select
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from ebsim.errors import MissingTool, SourceUnusable
from ebsim.sources.disk_image import DiskImage
from ebsim.sources.image_format import ImageFormat
from ebsim.sources.nbd_export import NbdExport
from ebsim.sources.nbd_protocol import NbdViolation
from ebsim.sources.open_source import open_source
from ebsim.sources.source import Extent
from tests.open_descriptors import open_descriptors
from tests.sources.images import KIB, MIB, VARIANTS, convert, patched, read_whole
from tests.tools import run

pytestmark = pytest.mark.usefixtures("qemu")


@pytest.mark.parametrize(("driver", "extension", "options"), VARIANTS)
def test_every_format_reads_byte_for_byte(
    tmp_path: Path, disk: Path, driver: str, extension: str, options: str
) -> None:
    arguments = ["-o", options] if options else []
    image = convert(disk, tmp_path / f"disk.{extension}", driver, *arguments)
    with closing(open_source(str(image))) as source:
        assert isinstance(source, DiskImage)
        assert source.size_bytes == disk.stat().st_size
        assert read_whole(source) == disk.read_bytes()
        assert source.changed_since_opened() is None
        assert source.location == str(image)


def test_a_compressed_image_reads_byte_for_byte(tmp_path: Path, disk: Path) -> None:
    image = convert(disk, tmp_path / "disk.qcow2", "qcow2", "-c")
    with closing(open_source(str(image))) as source:
        assert read_whole(source) == disk.read_bytes()


@pytest.mark.parametrize("size_bytes", [512, 4 * KIB, 64 * KIB + 512, 5 * MIB + 3 * 512])
def test_a_disk_of_an_odd_size_keeps_it(tmp_path: Path, size_bytes: int) -> None:
    raw = tmp_path / "odd.raw"
    raw.write_bytes(random.Random(4).randbytes(size_bytes))
    image = convert(raw, tmp_path / "odd.qcow2", "qcow2")
    with closing(open_source(str(image))) as source:
        assert source.size_bytes == size_bytes
        assert read_whole(source) == raw.read_bytes()


def test_holes_are_told_from_data_to_the_cluster(tmp_path: Path) -> None:
    image = tmp_path / "sparse.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "1T")
    run("qemu-io", "-f", "qcow2", "-c", "write 64k 64k", "-c", "write 900G 128k", image)
    with closing(open_source(str(image))) as source:
        assert source.size_bytes == 1 << 40
        expected = [Extent(64 * KIB, 128 * KIB), Extent(900 << 30, (900 << 30) + 128 * KIB)]
        assert list(source.extents()) == expected
        assert list(source.extents(128 * KIB)) == expected[1:]
        assert list(source.extents(source.size_bytes)) == []


def test_an_image_in_use_by_another_program_is_refused(qcow2: Path) -> None:
    """qemu-io holds qemu's own lock on the image, as a virtual machine would."""
    child = subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(qcow2)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        child.stdin.write("length\n")
        child.stdin.flush()
        assert child.stdout.readline()
        with pytest.raises(SourceUnusable, match="lock"):
            open_source(str(qcow2))
        child.stdin.write("quit\n")


def test_a_path_with_commas_colons_and_spaces_is_taken_as_it_is(
    tmp_path: Path, disk: Path, qcow2: Path
) -> None:
    folder = tmp_path / "a,b:c d,file.filename=x"
    folder.mkdir()
    image = qcow2.rename(folder / "json:{}, disk.qcow2")
    overlay = folder / "over,lay.qcow2"
    with closing(open_source(str(image))) as source:
        assert read_whole(source) == disk.read_bytes()
    convert(disk, folder / "base.qcow2", "qcow2")
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2"]
    run(*create, overlay)
    with closing(open_source(str(overlay), allow_backing_file=True)) as source:
        assert read_whole(source) == disk.read_bytes()


def test_many_threads_read_at_once(disk: Path, qcow2: Path) -> None:
    data = disk.read_bytes()
    wrong: list[int] = []

    def check(seed: int) -> None:
        chance = random.Random(seed)
        buffer = bytearray(64 * KIB)
        for _ in range(60):
            start = chance.randrange(len(data) - len(buffer))
            source.read_into(memoryview(buffer), start)
            if buffer != data[start : start + len(buffer)]:
                wrong.append(start)

    with closing(open_source(str(qcow2))) as source:
        threads = [threading.Thread(target=check, args=(seed,)) for seed in range(9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_an_image_written_meanwhile_is_noticed(qcow2: Path) -> None:
    with closing(open_source(str(qcow2))) as source:
        os.utime(qcow2, (1, 1))
        assert "modification time" in (source.changed_since_opened() or "")


def test_closing_ends_the_child_and_leaves_nothing_behind(
    qcow2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("a long name for temporary files " * 6)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    before = open_descriptors()
    source = DiskImage(qcow2, ImageFormat.QCOW2)
    assert list(folder.iterdir()) == []
    assert Path(f"/proc/{source.child_pid}").exists()
    source.close()
    source.close()
    assert not Path(f"/proc/{source.child_pid}").exists()
    assert open_descriptors() <= before


def test_an_image_that_cannot_be_opened_leaves_nothing_behind(qcow2: Path) -> None:
    before = open_descriptors()
    image = patched(qcow2, {100: b"\xff\xff\xff\xf0"})  # a header longer than a cluster
    with pytest.raises(SourceUnusable):
        DiskImage(image, ImageFormat.QCOW2)
    broken = patched(qcow2, {48: b"\xff" * 8})  # the refcount table, which only qemu reads
    with pytest.raises(SourceUnusable, match="cannot be opened by qemu-nbd"):
        DiskImage(broken, ImageFormat.QCOW2)
    assert open_descriptors() <= before


def test_a_child_that_dies_is_an_error_and_not_a_hang(qcow2: Path) -> None:
    with closing(DiskImage(qcow2, ImageFormat.QCOW2)) as source:
        os.kill(source.child_pid, signal.SIGKILL)
        with pytest.raises(SourceUnusable, match=r"byte 4096: qemu-nbd: .*connection"):
            source.read_into(memoryview(bytearray(512)), 4096)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), NbdViolation("a made-up one")])
def test_a_connection_whose_answer_was_broken_off_is_not_used_again(
    qcow2: Path, interruption: BaseException
) -> None:
    """What is left of the answer could pass for the next one; the others go on."""
    export = NbdExport(
        f"driver=qcow2,file.driver=file,file.filename={qcow2}".encode(),
        location=str(qcow2),
        connection_count=2,
    )
    buffer = memoryview(bytearray(512))
    with closing(export):
        with pytest.raises((KeyboardInterrupt, SourceUnusable)), export.client(0):
            raise interruption
        with export.client(0) as client:
            client.read_into(buffer, 0)
        with pytest.raises(SourceUnusable, match="connection"), export.client(0) as client:
            client.read_into(buffer, 0)


def test_the_child_ends_when_we_are_killed(qcow2: Path) -> None:
    program = (
        "import sys, time\n"
        "from ebsim.sources.disk_image import DiskImage\n"
        "from ebsim.sources.image_format import ImageFormat\n"
        "source = DiskImage(sys.argv[1], ImageFormat.QCOW2)\n"
        "print(source.child_pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(qcow2)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent:
        child_pid = int(parent.stdout.readline())
        watched = os.pidfd_open(child_pid)
        parent.kill()
    # A process's descriptor becomes readable when it ends.
    assert select.select([watched], [], [], 20)[0] == [watched]
    os.close(watched)


def test_without_qemu_nbd_the_package_is_named(
    qcow2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingTool, match="apt-get install qemu-utils"):
        open_source(str(qcow2))
