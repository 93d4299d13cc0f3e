import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.database import change_bank, make_bank
from benchmarks.images import Images, describe_image, join_images, mounted, unfinished
from ebsim.units import MIB
from tests.benchmarks.toy_images import write_image
from tests.tools import require_root, require_tool, run


def test_an_image_gets_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    image = tmp_path / "root-1.img"

    def fail() -> None:
        with unfinished(image) as path:
            assert path is not None
            path.write_bytes(b"half")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with unfinished(image) as path:
        assert path is not None
        path.write_bytes(b"whole")
    assert image.read_bytes() == b"whole"
    with unfinished(image) as path:
        assert path is None


def test_a_joined_disk_has_its_parts_one_after_the_other(tmp_path: Path) -> None:
    images = Images(tmp_path)
    paths = (images.root_before, images.root_after, images.data_before, images.data_after)
    parts = [write_image(path, seed, tail_bytes=100) for seed, path in enumerate(paths)]
    join_images(images, images.disk, 16 * MIB)
    content = images.disk.read_bytes()
    place = -(-len(parts[0]) // MIB) * MIB
    for turn, part in enumerate(parts):
        assert content[turn * place : turn * place + len(part)] == part
    assert images.disk.stat().st_blocks * 512 >= 16 * MIB


def test_an_image_is_described_by_its_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write_image(one, 1)
    write_image(other, 2)
    assert describe_image(one)["size_bytes"] == one.stat().st_size
    assert describe_image(one)["blake3"] != describe_image(other)["blake3"]


def test_the_workload_changes_rows_and_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "bank.sqlite"
    make_bank(path, row_count=500)
    change_bank(path, transaction_count=40)
    with closing(sqlite3.connect(path)) as bank:
        (count,) = bank.execute("SELECT count(*) FROM account").fetchone()
        (changed,) = bank.execute("SELECT count(*) FROM account WHERE balance != 0").fetchone()
    assert count == 500
    assert 0 < changed <= 40


@pytest.mark.slow
@pytest.mark.xdist_group("loop_devices")
def test_a_mounted_image_is_taken_off_again_even_after_a_failure(tmp_path: Path) -> None:
    require_root()
    mke2fs = require_tool("mke2fs", package="e2fsprogs")
    image, point = tmp_path / "fs.img", tmp_path / "mount"
    with image.open("wb") as file:
        file.truncate(8 * MIB)
    run(mke2fs, "-q", "-F", "-t", "ext4", image)

    def fail() -> None:
        with mounted(image, point) as folder:
            (folder / "hello").write_text("kept")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        fail()
    assert not point.exists()
    assert str(point) not in Path("/proc/mounts").read_text()
    with mounted(image, point) as folder:
        assert (folder / "hello").read_text() == "kept"
