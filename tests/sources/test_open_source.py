from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ebsim.errors import InvalidRequest, SourceUnusable
from ebsim.sources.block_device import BlockDevice
from ebsim.sources.open_source import open_source
from ebsim.sources.raw_file import RawFile
from ebsim.sources.source import SIZE_BYTES_MAX
from tests.sources.images import MIB, convert, make_disk
from tests.tools import require_tool, run

Attach = Callable[[Path], Path]


def test_a_file_in_no_other_format_is_a_raw_disk(tmp_path: Path) -> None:
    with closing(open_source(str(make_disk(tmp_path / "disk.img")))) as source:
        assert isinstance(source, RawFile)
        assert source.caution is None


def test_a_device_is_raw_whatever_is_in_it(tmp_path: Path, attach: Attach) -> None:
    """A guest may write any header into its disk: it must not choose how that is read."""
    require_tool("qemu-img", package="qemu-utils")
    image = convert(make_disk(tmp_path / "disk.raw"), tmp_path / "disk.qcow2", "qcow2")
    device = attach(image)
    with closing(open_source(str(device))) as source:
        assert isinstance(source, BlockDevice)
        assert source.location == str(device)
    with pytest.raises(SourceUnusable, match="read as raw only"):
        open_source(str(device), format="qcow2")


def test_standard_input_is_no_path() -> None:
    with pytest.raises(InvalidRequest, match=r"\./-"):
        open_source("-")


def test_an_unknown_format_is_refused_before_the_file_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="'iso' is not an image format"):
        open_source(str(tmp_path / "none"), format="iso")


@pytest.mark.parametrize("name", ["none", "none/disk", "disk/none"])
def test_what_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "disk").write_bytes(b"x")
    with pytest.raises(SourceUnusable, match=f"{name} does not exist"):
        open_source(str(tmp_path / name))


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(SourceUnusable, match="cannot be opened"):
        open_source(str(tmp_path / "link"))


def test_a_disk_larger_than_a_volume_can_be_is_refused(tmp_path: Path) -> None:
    require_tool("qemu-img", package="qemu-utils")
    image = tmp_path / "huge.qcow2"
    options = "cluster_size=2M"
    size = str(SIZE_BYTES_MAX + MIB)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, image, size)
    with pytest.raises(SourceUnusable, match=r"larger than a volume can be \(64.0 TiB\)"):
        open_source(str(image))


def test_a_point_in_time_is_taken_unless_told_otherwise(cloning_folder: Path) -> None:
    disk = make_disk(cloning_folder / "disk.raw")
    for point_in_time in (True, False):
        with closing(open_source(str(disk), point_in_time=point_in_time)) as source:
            assert isinstance(source, RawFile)
            assert source.is_point_in_time == point_in_time


def test_what_an_image_says_reaches_the_terminal_without_control_characters(
    tmp_path: Path,
) -> None:
    require_tool("qemu-img", package="qemu-utils")
    image = tmp_path / "disk.qcow2"
    base = make_disk(tmp_path / "base")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, image)
    raw = image.read_bytes()
    image.write_bytes(raw.replace(str(base).encode(), b"\x1b[2J\n".ljust(len(str(base)), b"x")))
    with pytest.raises(SourceUnusable) as refused:
        open_source(str(image))
    assert r"\x1b[2J\nx" in str(refused.value)
    assert str(refused.value).isprintable()
