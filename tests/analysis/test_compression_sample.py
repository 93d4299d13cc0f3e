"""The compressed sample: what it says of all blocks, and how far off it says it may be."""

from pathlib import Path
from random import Random

import pytest

from ebsim.analysis.analyze_images import AnalysisOptions, analyze_images
from ebsim.analysis.block_digests import BLOCK_SIZES
from ebsim.analysis.compression_sample import ALL, sample_shares
from ebsim.analysis.image_list import ImageList
from ebsim.units import GIB, KIB, MIB

LEVELS = (1, 3)


def write_disk(path: Path, size_bytes: int) -> None:
    """Runs of text, of noise, and of database pages of 8 KiB with a half that is empty."""
    random = Random(5)
    with path.open("wb") as file:
        while file.tell() < size_bytes:
            kind = random.randrange(3)
            for _ in range(random.randrange(1, 200)):
                noise = random.randbytes(2 * KIB)
                if kind == 0:
                    file.write(noise.hex().encode())
                elif kind == 1:
                    file.write(noise + random.randbytes(2 * KIB))
                else:
                    file.write(noise + bytes(6 * KIB))
        file.truncate(size_bytes)


@pytest.mark.slow
def test_the_sample_is_as_far_off_as_it_says(tmp_path: Path) -> None:
    write_disk(tmp_path / "disk.img", 24 * MIB)
    found = ImageList(keep_going=False)
    found.add_files([str(tmp_path / "disk.img")])
    sampled = analyze_images(found.images, AnalysisOptions(levels=LEVELS))
    whole = analyze_images(found.images, AnalysisOptions(levels=LEVELS, compress_all=True))
    uncertain = 0
    for one, other in zip(sampled.sizes, whole.sizes, strict=True):
        for level in LEVELS:
            guess, fact = one.payload[level], other.payload[level]
            assert fact.error_bytes == 0
            assert guess.error_bytes is not None
            # Five of 100 may be farther off; none is by half as much again.
            assert abs(guess.size_bytes - fact.size_bytes) <= 1.5 * guess.error_bytes
            uncertain += guess.error_bytes > 0
    assert uncertain >= len(LEVELS) * (len(BLOCK_SIZES) - 3)


def test_what_is_compressed_does_not_grow_with_the_disk_until_it_is_large() -> None:
    for size in BLOCK_SIZES:
        counts = []
        for total_bytes in (GIB, 4 * GIB):
            shares = sample_shares(total_bytes // size, size)
            counts.append([round(share * (total_bytes // size)) for share in shares])
        assert counts[0] == counts[1] or sample_shares(GIB // size, size).pages == 1
        assert counts[1][1] * size <= 32 * MIB
    assert sample_shares(7, 4 * MIB) == ALL


def test_many_whole_blocks_need_no_pages() -> None:
    pages = [sample_shares(GIB // size, size).pages for size in BLOCK_SIZES]
    assert [share > 0 for share in pages] == [False] * 2 + [True] * 9
