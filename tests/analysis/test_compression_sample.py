"""The compressed sample: what it says of all blocks, and how far off it says it may be."""

from collections import Counter
from pathlib import Path
from random import Random

import polars as pl
import pytest

from ebsim.analysis.analyze_images import AnalysisOptions, analyze_images
from ebsim.analysis.block_digests import BLOCK_SIZES
from ebsim.analysis.compression_estimate import estimate_payload
from ebsim.analysis.compression_sample import (
    ALL,
    Shares,
    StoredBlock,
    compression_tasks,
    sample_shares,
)
from ebsim.analysis.image_list import ImageList
from ebsim.analysis.sharing import DIGEST_COLUMNS
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
        assert counts[0] == counts[1] or sample_shares(GIB // size, size).pieces == 1
        assert counts[1][1] * size <= 32 * MIB
    assert sample_shares(7, 4 * MIB) == ALL


def test_many_whole_blocks_need_no_pieces() -> None:
    pieces = [sample_shares(GIB // size, size).pieces for size in BLOCK_SIZES]
    assert [share > 0 for share in pieces] == [False] * 2 + [True] * 9


def in_part(smaller: int, kept: int) -> StoredBlock:
    return StoredBlock(MIB, (smaller,), (kept,), ())


def test_few_whole_blocks_that_all_compress_do_not_speak_for_those_that_do_not() -> None:
    text = [StoredBlock(MIB, (MIB // 2,), (0,), (MIB // 4 + turn,)) for turn in range(8)]
    sampled = [*text, *[in_part(MIB // 2, 0)] * 150, *[in_part(0, MIB)] * 50]
    estimate = estimate_payload(sampled, 1000, (1,))[1]
    assert estimate is not None
    assert estimate.error_bytes is not None
    truth = 1000 * (3 * (MIB // 4) // 4 + MIB // 4)
    assert abs(estimate.size_bytes - truth) < 0.001 * truth
    assert 0.05 * truth < estimate.error_bytes < 0.3 * truth


def test_the_sample_lies_all_over_the_disk(tmp_path: Path) -> None:
    count, random = 40_000, Random(7)
    rows = {
        "block_size": pl.Series([4096] * count, dtype=pl.UInt32),
        "block_index": pl.Series(range(count), dtype=pl.UInt64),
    } | {
        name: pl.Series([random.getrandbits(64) for _ in range(count)], dtype=pl.UInt64)
        for name in DIGEST_COLUMNS
    }
    pl.DataFrame(rows).write_parquet(tmp_path / "part")
    (tmp_path / "disk.img").write_bytes(bytes(4096))
    found = ImageList(keep_going=False)
    found.add_files([str(tmp_path / "disk.img")])
    shares = {4096: Shares(pieces=0.025, whole=0.005)}
    tasks = compression_tasks(found.images, [[tmp_path / "part"]], shares, (1,))
    blocks = [block for task in tasks for block in task.blocks]
    for is_whole, wanted in ((True, 200), (False, 1000)):
        places = [index for _, index, piece in blocks if (piece < 0) == is_whole]
        assert 0.9 * wanted < len(places) < 1.1 * wanted
        tenths = Counter(index * 10 // count for index in places)
        assert all(abs(tenths[tenth] - wanted / 10) < 0.25 * wanted / 10 for tenth in range(10))
