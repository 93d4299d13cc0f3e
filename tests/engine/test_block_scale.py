"""Snapshots in blocks of another size, read in blocks of 512 KiB, against the disk's bytes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebsim.engine.direct import list_changed_blocks as changed_module
from ebsim.engine.direct.block_scale import BlockScale
from ebsim.engine.direct.get_block import get_block
from ebsim.engine.direct.list_blocks import PageRequest, list_blocks
from ebsim.engine.direct.list_changed_blocks import ListedChange
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.ids import SnapshotId
from ebsim.units import KIB, MIB
from tests.crash.recorded_store import quick_directory
from tests.engine.direct_snapshots import DIRECT_BLOCK, Plane, access_to
from tests.engine.stores import open_store, take

DISK_SIZE = 9 * MIB + 700
PAGES = 4 * KIB
block_sizes = st.sampled_from([4 * KIB, 64 * KIB, 256 * KIB, 512 * KIB, MIB, 4 * MIB])
# Pieces of 4 KiB by index, near the borders of blocks; 0 is zeros.
writes = st.dictionaries(
    st.one_of(st.sampled_from([0, 1, 127, 128, 255, 256, 1023, 1024, 2304]), st.integers(0, 2304)),
    st.integers(0, 2),
    max_size=6,
)


@pytest.fixture(scope="module")
def plane() -> Iterator[Plane]:
    """One store for all examples: they share nothing but chunks."""
    with quick_directory() as folder:
        region = open_store(folder / "home", random=Random(3))
        with access_to(region) as access:
            yield Plane(region, access)
        region.close()


def write(disk: bytearray, pieces: Mapping[int, int]) -> None:
    for index, seed in pieces.items():
        at = index * PAGES
        piece = Random(f"{index} {seed}").randbytes(PAGES) if seed else bytes(PAGES)
        disk[at : at + PAGES] = piece[: len(disk) - at]


def present(disk: bytes, block_size: int) -> set[int]:
    """The blocks of 512 KiB that a block of *block_size* which is not all zeros lies in."""
    starts = range(0, len(disk), block_size)
    return {
        index
        for start in starts
        if any(disk[start : start + block_size])
        for index in overlapped(start, block_size)
    }


def overlapped(start: int, size: int) -> range:
    return range(start // DIRECT_BLOCK, (start + size - 1) // DIRECT_BLOCK + 1)


def changed(old: bytes, new: bytes, block_size: int) -> set[int]:
    return {
        index
        for start in range(0, len(old), block_size)
        if old[start : start + block_size] != new[start : start + block_size]
        for index in overlapped(start, block_size)
    }


def read(plane: Plane, snapshot_id: SnapshotId, *, start: int, page_size: int) -> dict[int, bytes]:
    """The blocks from *start* on, listed page by page."""
    found: dict[int, bytes] = {}
    request = PageRequest(start, page_size)
    while True:
        page = list_blocks(plane.region, plane.access, snapshot_id, request)
        assert (page.block_size, page.volume_size_gib) == (DIRECT_BLOCK, 1)
        for index, token in page.blocks:
            data = get_block(plane.region, plane.access, snapshot_id, index, token)
            found[index] = bytes(data)
        if page.next_token is None:
            return found
        request = PageRequest(0, page_size, page.next_token)


@pytest.mark.slow
@settings(max_examples=25)
@given(block_sizes, writes, writes, st.integers(0, 19), st.integers(1, 5), st.booleans())
def test_what_is_listed_and_got_is_what_the_disk_holds(
    plane: Plane,
    block_size: int,
    first_writes: dict[int, int],
    second_writes: dict[int, int],
    start: int,
    page_size: int,
    is_large: bool,
) -> None:
    options = SnapshotOptions(block_size=block_size, thread_count=1)
    disk = bytearray(DISK_SIZE)
    contents, ids = [], []
    with quick_directory() as folder:
        image = Path(folder) / "disk.img"
        for pieces in (first_writes, second_writes):
            write(disk, pieces)
            image.write_bytes(disk)
            contents.append(bytes(disk))
            ids.append(SnapshotId(take(plane.region, image, options)))
    for snapshot_id, content in zip(ids, contents, strict=True):
        expected = {
            index: content[index * DIRECT_BLOCK :][:DIRECT_BLOCK].ljust(DIRECT_BLOCK, b"\0")
            for index in sorted(present(content, block_size))
            if index >= start
        }
        found = read(plane, snapshot_id, start=start, page_size=page_size)
        assert found == expected
        assert list(found) == list(expected)
    with pytest.MonkeyPatch.context() as patch:
        if is_large:
            patch.setattr(changed_module, "COUNTED_BLOCKS_MAX", 0)
        pages = list(plane.changes(*ids, page_size=page_size))
    sides = [present(content, block_size) for content in contents]
    assert [shown(one) for page in pages for one in page] == [
        (index, index in sides[0], index in sides[1])
        for index in sorted(changed(contents[0], contents[1], block_size))
    ]


def shown(change: ListedChange) -> tuple[int, bool, bool]:
    return change.block_index, change.first_token is not None, change.second_token is not None


@given(block_sizes, st.integers(0, 1 << 27))
def test_what_a_block_is_made_of_leads_back_to_it(block_size: int, index: int) -> None:
    scale = BlockScale(block_size)
    first = scale.first_in_map(index)
    for map_index in (first, first + scale.per_block - 1):
        assert index in scale.indexes_of(map_index)
    assert index not in scale.indexes_of(first + scale.per_block)
