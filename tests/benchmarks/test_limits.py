from pathlib import Path

from benchmarks.limits import (
    compress_seconds,
    decompress_seconds,
    load_image,
    payloads_of,
    read_seconds,
    write_seconds,
)
from ebsim.content.compression import Codec, decode
from tests.benchmarks.toy_images import BLOCK_SIZE, write_image


def test_an_image_in_memory_has_each_content_once_and_no_zeros(tmp_path: Path) -> None:
    content = write_image(tmp_path / "disk.img", seed=1)
    image = load_image(tmp_path / "disk.img")
    assert image.size_bytes == len(content)
    assert [place for place, _ in image.places] == [
        0,
        BLOCK_SIZE,
        4 * BLOCK_SIZE,
        6 * BLOCK_SIZE,
    ]
    assert [position for _, position in image.places] == [0, 1, 0, 2]
    assert len(image.unique) == 3
    assert image.unique[1] == content[BLOCK_SIZE : 2 * BLOCK_SIZE]


def test_the_limit_of_writing_writes_the_image(tmp_path: Path) -> None:
    content = write_image(tmp_path / "disk.img", seed=2)
    image = load_image(tmp_path / "disk.img")
    assert write_seconds(image, tmp_path / "copy.img", thread_count=2) > 0
    assert (tmp_path / "copy.img").read_bytes() == content


def test_the_limit_of_decoding_decodes_the_frames_that_the_store_would_keep(
    tmp_path: Path,
) -> None:
    """One of the three blocks is random: the store keeps it as it is, so nobody decodes it."""
    write_image(tmp_path / "disk.img", seed=3)
    image = load_image(tmp_path / "disk.img")
    payloads = payloads_of(image.unique)
    assert [bytes(decode(Codec.ZSTD, payload, BLOCK_SIZE)) for payload in payloads] == [
        image.unique[0],
        image.unique[2],
    ]
    assert decompress_seconds(payloads, thread_count=2) > 0
    assert compress_seconds(image.unique, thread_count=2) > 0


def test_the_limit_of_reading_reads_every_byte_of_the_extents(tmp_path: Path) -> None:
    """It asserts so itself: an extent that goes past the end of the file cannot be read."""
    write_image(tmp_path / "disk.img", seed=4)
    image = load_image(tmp_path / "disk.img")
    assert sum(stop - start for start, stop in image.extents) == image.data_bytes > 0
    assert read_seconds(tmp_path / "disk.img", image.extents, thread_count=2) > 0
