"""Headers that lie: whatever an image says, the answer is one of our errors or a format."""

import struct
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebsim.errors import InvalidRequest, SourceUnusable
from ebsim.sources.image_bytes import ImageBytes
from ebsim.sources.image_format import (
    ImageFormat,
    check_image,
    detect_format,
    parse_format,
    settle_format,
)
from ebsim.sources.opened_file import OpenedFile
from ebsim.sources.vhd_image import is_footer
from tests.sources.images import KIB, MIB, convert, make_disk
from tests.tools import require_tool

SAMPLES: dict[str, tuple[str, str]] = {
    "qcow2": ("qcow2", "cluster_size=4k"),
    "extended": ("qcow2", "extended_l2=on,cluster_size=16k"),
    "vmdk": ("vmdk", ""),
    "stream": ("vmdk", "subformat=streamOptimized"),
    "vhd": ("vpc", "force_size=on"),
    "vdi": ("vdi", ""),
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    require_tool("qemu-img", package="qemu-utils")
    folder = tmp_path_factory.mktemp("images")
    disk = make_disk(folder / "disk.raw", 13 * MIB)
    return {
        name: convert(disk, folder / name, driver, *(["-o", options] if options else []))
        for name, (driver, options) in SAMPLES.items()
    }


def examine(path: Path, check: Callable[[ImageBytes], object]) -> object:
    with closing(OpenedFile(path)) as file:
        return check(ImageBytes(file))


def check_as_detected(image: ImageBytes) -> ImageFormat:
    found = detect_format(image)
    check_image(image, found)
    return found


def overwrite(path: Path, changes: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Change bytes of *path* in place; return what undoes it."""
    undo = []
    with path.open("r+b", buffering=0) as file:
        for offset, data in changes:
            file.seek(offset)
            undo.append((offset, file.read(len(data))))
            file.seek(offset)
            file.write(data)
    return undo[::-1]


# Where the headers' numbers are; extremes are what arithmetic goes wrong on.
_numbers = st.sampled_from([0, 1, 2, 511, 512, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
_edits = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 127), st.integers(0, 511), st.integers(0, 8 * KIB)),
        st.one_of(
            st.binary(min_size=1, max_size=8),
            _numbers.map(lambda number: struct.pack("<I", number)),
            _numbers.map(lambda number: struct.pack(">I", number)),
            st.sampled_from([b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\0" * 8]),
        ),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=_edits)
def test_a_header_that_lies_gives_a_format_or_our_error(
    samples: dict[str, Path], name: str, edits: list[tuple[int, bytes]]
) -> None:
    undo = overwrite(samples[name], edits)
    try:
        with suppress(SourceUnusable):
            examine(samples[name], check_as_detected)
    finally:
        overwrite(samples[name], undo)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    magic=st.sampled_from([b"QFI\xfb\0\0\0\3", b"KDMV", b"conectix", b"vhdxfile", b"", b"COWD"]),
    rest=st.binary(min_size=1, max_size=700),
    image_format=st.sampled_from(ImageFormat),
)
def test_noise_gives_a_format_or_our_error(
    tmp_path: Path, magic: bytes, rest: bytes, image_format: ImageFormat
) -> None:
    path = tmp_path / "noise"
    path.write_bytes(magic + rest)
    examine(path, detect_format)
    with suppress(SourceUnusable):
        examine(path, lambda image: check_image(image, image_format))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("qcow2", "qcow2"), ("vmdk", "vmdk"), ("stream", "vmdk"), ("vhd", "vhd"), ("vdi", "vdi")],
)
def test_an_image_is_known_by_its_bytes(
    samples: dict[str, Path], name: str, expected: str
) -> None:
    assert examine(samples[name], check_as_detected) == expected


def test_tables_that_are_named_over_and_over_are_refused_before_they_are_read(
    samples: dict[str, Path], tmp_path: Path
) -> None:
    """A small file that sends its reader over the same table for hours."""
    raw = bytearray(samples["qcow2"].read_bytes())
    (l1_offset,) = struct.unpack_from(">Q", raw, 40)
    (first,) = struct.unpack_from(">Q", raw, l1_offset)
    count = 1 << 20
    struct.pack_into(">Q", raw, 24, count * 2 * MIB)  # the disk's size
    struct.pack_into(">IQ", raw, 36, count, len(raw))
    image = tmp_path / "bomb"
    image.write_bytes(raw + struct.pack(">Q", first) * count)
    with pytest.raises(SourceUnusable, match="more than the file has"):
        examine(image, check_as_detected)


def test_a_disk_of_one_byte_is_raw(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"x")
    assert examine(tmp_path / "disk", check_as_detected) is ImageFormat.RAW


def test_a_raw_disk_that_ends_in_the_footers_magic_stays_raw(tmp_path: Path) -> None:
    """The checksum tells a footer from a guest's sector that begins like one."""
    (tmp_path / "disk").write_bytes(bytes(4096) + b"conectix".ljust(512, b"\0"))
    assert examine(tmp_path / "disk", detect_format) is ImageFormat.RAW


@given(st.binary(min_size=504, max_size=504), st.integers(0, 511), st.integers(1, 255))
def test_any_changed_byte_of_a_footer_is_noticed(rest: bytes, at: int, change: int) -> None:
    raw = bytearray(b"conectix" + rest)
    raw[64:68] = bytes(4)
    raw[64:68] = (~sum(raw) & 0xFFFF_FFFF).to_bytes(4, "big")
    assert is_footer(bytes(raw))
    raw[at] ^= change
    assert not is_footer(bytes(raw))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("qcow2", "qcow2"), ("QCOW2", "qcow2"), ("vpc", "vhd"), ("vhd", "vhd"), ("raw", "raw")],
)
def test_a_format_goes_by_our_name_or_qemus(name: str, expected: str) -> None:
    assert parse_format(name) == expected


@pytest.mark.parametrize("name", ["", "qcow", "iso", "raw,driver=nbd"])
def test_an_unknown_format_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(InvalidRequest, match="raw, qcow2, vmdk, vhd, vhdx, vdi"):
        parse_format(name)


@pytest.mark.parametrize("name", ["disk", "disk.img", "disk.QCOW2", "disk.bin", "disk.qcow2.old"])
def test_a_name_that_claims_nothing_else_is_no_matter(samples: dict[str, Path], name: str) -> None:
    found = examine(samples["qcow2"], lambda image: settle_format(image, name, None))
    assert found is ImageFormat.QCOW2
