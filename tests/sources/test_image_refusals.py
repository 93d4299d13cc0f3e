"""Images that are refused: not whole, or choosing other files to be read."""

import os
import random
from contextlib import closing
from pathlib import Path

import pytest

from ebsim.errors import SourceUnusable
from ebsim.sources.disk_image import DiskImage
from ebsim.sources.open_source import open_source
from tests.sources.images import KIB, MIB, VARIANTS, convert, cut, patched, read_whole
from tests.tools import run

pytestmark = pytest.mark.usefixtures("qemu")


def test_a_backing_file_is_refused_unless_allowed(tmp_path: Path, disk: Path, qcow2: Path) -> None:
    overlay = tmp_path / "overlay.qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", qcow2.name]
    run(*command, overlay)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 0x55 4M 64k", overlay)
    with pytest.raises(SourceUnusable, match=r"'disk\.qcow2'.*--allow-backing-file"):
        open_source(str(overlay))
    expected = bytearray(disk.read_bytes())
    expected[4 * MIB : 4 * MIB + 64 * KIB] = b"\x55" * (64 * KIB)
    with closing(open_source(str(overlay), allow_backing_file=True)) as source:
        assert read_whole(source) == bytes(expected)


def test_a_backing_file_that_is_cut_off_is_refused(tmp_path: Path, qcow2: Path) -> None:
    overlay = tmp_path / "overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", qcow2, overlay)
    os.truncate(qcow2, qcow2.stat().st_size // 2)
    with pytest.raises(SourceUnusable, match="is truncated"):
        open_source(str(overlay), allow_backing_file=True)


def test_backing_files_in_a_circle_are_refused(tmp_path: Path, qcow2: Path) -> None:
    overlay = tmp_path / "overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", qcow2, overlay)
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", overlay, qcow2)
    with pytest.raises(SourceUnusable, match="circle"):
        open_source(str(overlay), allow_backing_file=True)


def test_a_backing_file_without_its_format_is_refused_even_if_allowed(
    tmp_path: Path, qcow2: Path
) -> None:
    """A guest could have written an image's header into a raw backing file."""
    overlay = tmp_path / "overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", qcow2, overlay)
    raw = overlay.read_bytes()
    at = raw.index((0xE2792ACA).to_bytes(4, "big"))
    with pytest.raises(SourceUnusable, match="without its format"):
        open_source(str(patched(overlay, {at: b"\x11"})), allow_backing_file=True)


def test_a_backing_file_over_the_network_is_refused_even_if_allowed(
    tmp_path: Path, qcow2: Path
) -> None:
    overlay = tmp_path / "overlay.qcow2"
    command = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw"]
    convert(qcow2, overlay, "qcow2")
    run(*command, "-b", "nbd:127.0.0.1:1", overlay)
    with pytest.raises(SourceUnusable, match="not as a plain file"):
        open_source(str(overlay), allow_backing_file=True)


def test_an_external_data_file_is_refused_by_name(tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    options = f"data_file={tmp_path / 'elsewhere'},data_file_raw=on"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, image, "1M")
    with pytest.raises(SourceUnusable, match=r"another file, '.*elsewhere'"):
        open_source(str(image), allow_backing_file=True)


def test_an_encrypted_image_is_refused(qcow2: Path) -> None:
    with pytest.raises(SourceUnusable, match="is encrypted"):
        open_source(str(patched(qcow2, {35: b"\x02"})))


@pytest.mark.parametrize(("bit", "message"), [(1, "not closed cleanly"), (2, "as corrupt")])
def test_an_image_marked_dirty_or_corrupt_is_refused(qcow2: Path, bit: int, message: str) -> None:
    with pytest.raises(SourceUnusable, match=message):
        open_source(str(patched(qcow2, {79: bytes([bit])})))


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentSparse"])
def test_a_vmdk_that_names_other_files_is_refused(tmp_path: Path, subformat: str) -> None:
    image = tmp_path / "disk.vmdk"
    run("qemu-img", "create", "-q", "-f", "vmdk", "-o", f"subformat={subformat}", image, "1M")
    with pytest.raises(SourceUnusable, match="other files"):
        open_source(str(image))


def test_a_part_of_a_split_vmdk_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "disk.vmdk"
    options = "subformat=twoGbMaxExtentSparse"
    run("qemu-img", "create", "-q", "-f", "vmdk", "-o", options, image, "1M")
    with pytest.raises(SourceUnusable, match="one part of a VMDK"):
        open_source(str(tmp_path / "disk-s001.vmdk"))


def test_a_vmdk_with_a_parent_is_refused(tmp_path: Path, disk: Path) -> None:
    base = convert(disk, tmp_path / "base.vmdk", "vmdk")
    child = tmp_path / "child.vmdk"
    run("qemu-img", "create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", base, child)
    with pytest.raises(SourceUnusable, match="changes to a parent image"):
        open_source(str(child))


def test_a_vmdk_whose_header_sends_the_reader_to_its_text_is_refused(
    tmp_path: Path, disk: Path
) -> None:
    """qemu takes a header of capacity 0 for a text that may name any file."""
    image = patched(convert(disk, tmp_path / "disk.vmdk", "vmdk"), {12: bytes(8)})
    with pytest.raises(SourceUnusable, match="names other files"):
        open_source(str(image))


def test_a_vmdk_whose_text_names_a_second_file_is_refused(tmp_path: Path, disk: Path) -> None:
    image = convert(disk, tmp_path / "disk.vmdk", "vmdk")
    at = image.read_bytes().index(b"# The Disk Data Base")
    image = patched(image, {at: b'RW 1 FLAT "/etc/passwd"\n'})
    with pytest.raises(SourceUnusable, match="names other files"):
        open_source(str(image))


def vhd_with(image: Path, offset: int, data: bytes) -> Path:
    """A copy of *image* with both footers changed and their checksums right."""
    raw = bytearray(image.read_bytes())
    for start in (0, len(raw) - 512):
        raw[start + offset : start + offset + len(data)] = data
        raw[start + 64 : start + 68] = bytes(4)
        total = ~sum(raw[start : start + 512]) & 0xFFFF_FFFF
        raw[start + 64 : start + 68] = total.to_bytes(4, "big")
    copy = image.with_name("changed.vhd")
    copy.write_bytes(raw)
    return copy


def test_a_differencing_vhd_is_refused(tmp_path: Path, disk: Path) -> None:
    image = convert(disk, tmp_path / "disk.vhd", "vpc")
    with pytest.raises(SourceUnusable, match="changes to a parent image"):
        open_source(str(vhd_with(image, 60, (4).to_bytes(4, "big"))))


def test_a_vhd_is_as_long_as_it_says_whoever_wrote_it(tmp_path: Path, disk: Path) -> None:
    """By its geometry, which qemu believes for Virtual PC, it would be shorter."""
    image = convert(disk, tmp_path / "disk.vhd", "vpc", "-o", "force_size=on")
    with closing(open_source(str(vhd_with(image, 28, b"vpc ")))) as source:
        assert source.size_bytes == disk.stat().st_size
        assert read_whole(source) == disk.read_bytes()


def test_a_vhdx_with_a_parent_is_refused(tmp_path: Path, disk: Path) -> None:
    image = convert(disk, tmp_path / "disk.vhdx", "vhdx")
    raw = image.read_bytes()
    # The file parameters, found by their GUID in the metadata region's table.
    entry = raw.index(bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b"))
    region = raw.index(b"metadata")
    flags_at = region + int.from_bytes(raw[entry + 16 : entry + 20], "little") + 4
    assert raw[flags_at] in (0, 1)
    with pytest.raises(SourceUnusable, match="qemu-nbd"):
        open_source(str(patched(image, {flags_at: b"\x02"})))


def test_a_vdi_with_a_parent_is_refused(tmp_path: Path, disk: Path) -> None:
    image = convert(disk, tmp_path / "disk.vdi", "vdi")
    with pytest.raises(SourceUnusable, match="changes to a parent image"):
        open_source(str(patched(image, {440: b"\x01"})))


@pytest.mark.slow
@pytest.mark.parametrize(("driver", "extension", "options"), VARIANTS)
def test_an_image_cut_off_anywhere_is_refused_or_whole(
    tmp_path: Path, disk: Path, driver: str, extension: str, options: str
) -> None:
    """Never zeros for what was cut off; a cut behind all the data does no harm."""
    arguments = ["-o", options] if options else []
    image = convert(disk, tmp_path / f"disk.{extension}", driver, *arguments)
    size_bytes = image.stat().st_size
    chance = random.Random(5)
    sizes = [1, 511, 512, 4096, size_bytes - 1, size_bytes - 512, size_bytes - 64 * KIB]
    refused = 0
    for size in [*sizes, *(chance.randrange(1, size_bytes) for _ in range(8))]:
        try:
            source = open_source(str(cut(image, size)))
        except SourceUnusable:
            refused += 1
            continue
        with closing(source):
            assert read_whole(source) == disk.read_bytes()
    assert refused >= 8


def test_a_compressed_image_cut_off_anywhere_is_refused(tmp_path: Path, disk: Path) -> None:
    image = convert(disk, tmp_path / "disk.qcow2", "qcow2", "-c")
    size_bytes = image.stat().st_size
    for size in (size_bytes - 512, size_bytes - 64 * KIB, size_bytes // 2, size_bytes // 7):
        with pytest.raises(SourceUnusable, match="truncated"):
            open_source(str(cut(image, size)))


@pytest.mark.parametrize("extension", ["qcow2", "vmdk", "vhd", "vhdx", "vdi", "qcow", "vpc"])
def test_an_image_that_only_claims_its_format_is_refused(tmp_path: Path, extension: str) -> None:
    image = tmp_path / f"disk.{extension}"
    image.write_bytes(b"no such format" * 100)
    with pytest.raises(SourceUnusable, match="claims by its name"):
        open_source(str(image))
    with closing(open_source(str(image), format="raw")) as source:
        assert read_whole(source) == image.read_bytes()


def test_an_image_under_a_raw_name_is_refused_until_its_format_is_named(qcow2: Path) -> None:
    image = qcow2.rename(qcow2.with_name("other.raw"))
    with pytest.raises(SourceUnusable, match="--format qcow2"):
        open_source(str(image))
    with closing(open_source(str(image), format="qcow2")) as source:
        assert isinstance(source, DiskImage)
    with closing(open_source(str(image), format="raw")) as source:
        assert source.size_bytes == image.stat().st_size


def test_a_format_that_the_bytes_are_not_in_is_refused(disk: Path) -> None:
    with pytest.raises(SourceUnusable, match="not in the format qcow2"):
        open_source(str(disk), format="qcow2")
