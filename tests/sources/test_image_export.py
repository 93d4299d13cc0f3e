import random
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ebsim.errors import MissingTool, TargetUnusable
from ebsim.sources.image_export import export_image
from ebsim.sources.image_format import ImageFormat
from ebsim.sources.open_source import open_source
from tests.sources.images import KIB, MIB, read_whole
from tests.tools import require_root, run

pytestmark = pytest.mark.usefixtures("qemu")


@pytest.mark.parametrize("image_format", list(ImageFormat))
def test_what_is_exported_reads_back_byte_for_byte(
    tmp_path: Path, disk: Path, image_format: ImageFormat
) -> None:
    target = tmp_path / f"out.{image_format}"
    export_image(disk, target, image_format)
    with closing(open_source(str(target))) as source:
        assert source.size_bytes == disk.stat().st_size
        assert read_whole(source) == disk.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk.raw", target.name]


@pytest.mark.parametrize("image_format", list(ImageFormat))
def test_an_odd_length_is_kept_or_filled_up_to_a_sector(
    tmp_path: Path, image_format: ImageFormat
) -> None:
    disk, target = tmp_path / "odd.raw", tmp_path / f"out.{image_format}"
    disk.write_bytes(random.Random(6).randbytes(3 * MIB + 1000))
    export_image(disk, target, image_format)
    with closing(open_source(str(target))) as source:
        filled = 0 if image_format is ImageFormat.RAW else 24
        assert read_whole(source) == disk.read_bytes() + bytes(filled)


def test_a_vmdk_names_itself_as_its_only_file(tmp_path: Path, disk: Path) -> None:
    """VMware's programs look for the data under the name written inside."""
    export_image(disk, tmp_path / "out.vmdk", ImageFormat.VMDK)
    assert b'SPARSE "out.vmdk"' in (tmp_path / "out.vmdk").read_bytes()[: 64 * KIB]


def test_a_failed_export_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    disk, target = tmp_path / "huge.raw", tmp_path / "out.vhd"
    with disk.open("wb") as file:
        file.truncate(3 << 40)  # more than a VHD can hold
    target.write_bytes(b"before")
    with pytest.raises(TargetUnusable, match=r"out\.vhd cannot be written by qemu-img: .+"):
        export_image(disk, target, ImageFormat.VHD)
    assert target.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["huge.raw", "out.vhd"]


def test_a_full_disk_leaves_the_target_as_it_was(
    tmp_path: Path, disk: Path, stack: ExitStack
) -> None:
    require_root()
    folder = tmp_path / "small"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", folder)
    stack.callback(run, "umount", folder)
    (folder / "out.qcow2").write_bytes(b"before")
    with pytest.raises(TargetUnusable, match="No space left on device"):
        export_image(disk, folder / "out.qcow2", ImageFormat.QCOW2)
    assert [path.name for path in folder.iterdir()] == ["out.qcow2"]
    assert (folder / "out.qcow2").read_bytes() == b"before"


def test_an_export_into_no_folder_is_refused(tmp_path: Path, disk: Path) -> None:
    with pytest.raises(TargetUnusable, match="No such file or directory"):
        export_image(disk, tmp_path / "none" / "out.qcow2", ImageFormat.QCOW2)


def test_an_export_onto_a_folder_is_refused(tmp_path: Path, disk: Path) -> None:
    with pytest.raises(TargetUnusable, match="not a regular file"):
        export_image(disk, tmp_path, ImageFormat.QCOW2)


def test_without_qemu_img_the_package_is_named(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingTool, match="apt-get install qemu-utils"):
        export_image(disk, tmp_path / "out.qcow2", ImageFormat.QCOW2)
