"""Counting, against a model that counts with sets of Python."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebsim.analysis.block_digests import BLOCK_SIZES
from ebsim.analysis.parts import Part, encode_part, read_notes
from ebsim.analysis.sharing import Sharing, count_sharing, digest_ranges

# Digests of few contents, spread over all there are; each image is a list of blocks.
contents = st.integers(0, 11)
disks = st.lists(st.lists(contents, max_size=12), min_size=1, max_size=5)


def digest(content: int) -> tuple[int, int]:
    """Two contents may have the same first half: only both halves tell them apart."""
    return (content // 2) * (2**64 // 6) + 5, content


def write_part(folder: Path, name: str, blocks: list[int]) -> Path:
    order = sorted(range(len(blocks)), key=lambda index: digest(blocks[index])[0])
    column = [
        np.array(values, dtype=np.uint64)
        for values in (
            order,
            [digest(blocks[index])[0] for index in order],
            [digest(blocks[index])[1] for index in order],
        )
    ]
    none = tuple(np.array([], dtype=np.uint64) for _ in range(3))
    rows = [(column[0], column[1], column[2]), *[none] * (len(BLOCK_SIZES) - 1)]
    path = folder / f"{name}.parquet"
    path.write_bytes(encode_part(Part(7, rows)))  # type: ignore[arg-type] # three of them, above
    return path


def counted(folder: Path, images: list[list[int]], rows_max: int | None = None) -> Sharing:
    """Each image is in two parts."""
    parts = [
        [
            write_part(folder, f"{at}-a", blocks[: len(blocks) // 2]),
            write_part(folder, f"{at}-b", blocks[len(blocks) // 2 :]),
        ]
        for at, blocks in enumerate(images)
    ]
    counts = {4096: [len(blocks) for blocks in images]}
    return count_sharing(parts, counts, rows_max=rows_max)[4096]


@settings(max_examples=15)
@given(images=disks, rows_max=st.sampled_from([1, 3, 1000]))
def test_counts_are_those_of_sets(
    tmp_path_factory: pytest.TempPathFactory, images: list[list[int]], rows_max: int
) -> None:
    sharing = counted(tmp_path_factory.mktemp("parts"), images, rows_max)
    sets = [set(blocks) for blocks in images]
    assert sharing.shared_counts.tolist() == [[len(a & b) for b in sets] for a in sets]
    assert sharing.distinct_count == len(set().union(*sets))
    assert sharing.block_count == sum(map(len, images))
    assert sharing.repeated_within_count == sum(len(b) - len(set(b)) for b in images)
    seen: set[int] = set()
    added = []
    for own in sets:
        added.append(len(own - seen))
        seen |= own
    assert sharing.added_counts.tolist() == added
    alone = [len(own.difference(*sets[:at], *sets[at + 1 :])) for at, own in enumerate(sets)]
    assert sharing.alone_counts.tolist() == alone


@pytest.mark.slow
def test_more_images_than_a_word_has_bits_are_told_apart(tmp_path: Path) -> None:
    images = [[at % 5, 6] for at in range(70)]
    sharing = counted(tmp_path, images)
    assert sharing.shared_counts[69].tolist() == [2 if at % 5 == 4 else 1 for at in range(70)]
    assert sharing.added_counts.tolist() == [2, 1, 1, 1, 1, *[0] * 65]


def test_a_part_tells_what_is_in_it_without_its_rows(tmp_path: Path) -> None:
    notes = read_notes(write_part(tmp_path, "a", [3, 4, 4]))
    assert notes is not None
    assert (notes.hole_bytes, notes.blocks[0], notes.blocks[1]) == (7, (3, 2), (0, -1))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    assert read_notes(tmp_path / "b.parquet") is None


@given(row_count=st.integers(0, 10**10), rows_max=st.integers(10**6, 10**9))
def test_ranges_of_digests_cover_all_and_touch(row_count: int, rows_max: int) -> None:
    ranges = list(digest_ranges(row_count, rows_max))
    assert (ranges[0][0], ranges[-1][1]) == (0, 2**64 - 1)
    assert all(one[1] + 1 == other[0] for one, other in pairwise(ranges))
    assert len(ranges) == max(1, -(-row_count // rows_max))
