"""Listing and reading blocks, against dictionaries."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebsim.catalog.snapshot import SnapshotState
from ebsim.clock import ManualClock
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.direct import list_changed_blocks as changed_module
from ebsim.engine.direct.block_access import (
    BLOCK_TOKEN_SECONDS,
    PAGE_TOKEN_SECONDS,
    BlockAccess,
)
from ebsim.engine.direct.get_block import get_block
from ebsim.engine.direct.list_blocks import BlockPage, PageRequest, list_blocks
from ebsim.engine.direct.list_changed_blocks import list_changed_blocks
from ebsim.engine.direct.refusals import (
    BlockTokenInvalid,
    ForeignBlockSize,
    PageTokenInvalid,
    UnrelatedSnapshots,
)
from ebsim.engine.region import Region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.errors import SnapshotNotFound
from ebsim.ids import SnapshotId
from tests.crash.recorded_store import quick_directory
from tests.engine.direct_snapshots import DIRECT_BLOCK, Plane, access_to, direct_block, seed_of
from tests.engine.stores import SMALL, change_disk, open_store, take, write_disk

if TYPE_CHECKING:
    from ebsim.engine.direct.list_changed_blocks import ListedChange

# Near leaf borders, and the last of 1 GiB.
block_indexes = st.one_of(st.integers(0, 5), st.sampled_from([127, 128, 129, 1000, 2047]))
seeds = st.integers(0, 3)
puts = st.dictionaries(block_indexes, seeds, max_size=6)


@pytest.fixture
def plane(region: Region) -> Iterator[Plane]:
    with access_to(region) as access:
        yield Plane(region, access)


@pytest.fixture(scope="module")
def quick_plane() -> Iterator[Plane]:
    """One store for all examples of a property: they share nothing but chunks."""
    with quick_directory() as folder:
        region = open_store(folder / "home", random=Random(3))
        with access_to(region) as access:
            yield Plane(region, access)
        region.close()


def page_of(plane: Plane, snapshot_id: str, request: PageRequest) -> BlockPage:
    return list_blocks(plane.region, plane.access, SnapshotId(snapshot_id), request)


def merged_changes(pages: Iterator[list["ListedChange"]]) -> dict[int, tuple[bool, bool]]:
    """Which sides' tokens were listed by index, in rising order."""
    found: dict[int, tuple[bool, bool]] = {}
    for page in pages:
        for index, first, second in page:
            assert index not in found
            found[index] = (first is not None, second is not None)
    assert list(found) == sorted(found)
    return found


@pytest.mark.slow
@settings(max_examples=25)
@given(first=puts, second=puts, third=puts, page_size=st.integers(1, 7))
def test_lists_of_a_family_are_those_of_the_model(
    quick_plane: Plane,
    first: dict[int, int],
    second: dict[int, int],
    third: dict[int, int],
    page_size: int,
) -> None:
    """A parent and two children; blocks compare by who wrote them, not by what they hold."""
    plane = quick_plane
    parent = plane.make(first)
    left, right = plane.make(second, parent), plane.make(third, parent)
    writers = [
        dict.fromkeys(first, 0),
        dict.fromkeys(first, 0) | dict.fromkeys(second, 1),
        dict.fromkeys(first, 0) | dict.fromkeys(third, 2),
    ]
    models = [first, first | second, first | third]
    family = [parent, left, right]
    for snapshot_id, model in zip(family, models, strict=True):
        assert plane.read(snapshot_id, page_size=page_size) == model
    for old in range(3):
        for new in range(3):
            before, after = writers[old], writers[new]
            expected = {
                index: (index in before, index in after)
                for index in sorted(before.keys() | after.keys())
                if before.get(index) != after.get(index)
            }
            pages = plane.changes(family[old], family[new], page_size=page_size)
            assert merged_changes(pages) == expected
    # The other way of paging, for large maps, lists the same.
    counted = changed_module.COUNTED_BLOCKS_MAX
    changed_module.COUNTED_BLOCKS_MAX = -1
    try:
        pages = plane.changes(left, right, page_size=page_size)
        listed = merged_changes(pages)
    finally:
        changed_module.COUNTED_BLOCKS_MAX = counted
    assert listed == merged_changes(plane.changes(left, right))


def test_a_list_begins_at_the_block_asked_for(plane: Plane) -> None:
    snapshot_id = plane.make({0: 1, 5: 1, 130: 1, 2047: 1})
    for start, expected in [(0, [0, 5, 130, 2047]), (5, [5, 130, 2047]), (131, [2047])]:
        page = page_of(plane, snapshot_id, PageRequest(start))
        assert [block.block_index for block in page.blocks] == expected


def test_past_the_end_nothing_is_listed(plane: Plane) -> None:
    snapshot_id = plane.make({0: 1})
    for start in (1, 2048, 1 << 40):
        page = page_of(plane, snapshot_id, PageRequest(start))
        assert (page.blocks, page.next_token) == ([], None)
        assert page.expiry_time_ns <= plane.region.clock.now_ns()
        assert (page.volume_size_gib, page.block_size) == (1, DIRECT_BLOCK)


def test_a_page_token_wins_over_a_start(plane: Plane) -> None:
    snapshot_id = plane.make({0: 1, 5: 1, 9: 1})
    first = page_of(plane, snapshot_id, PageRequest(max_results=1))
    second = page_of(plane, snapshot_id, PageRequest(9, 10, first.next_token))
    assert [block.block_index for block in second.blocks] == [5, 9]


def test_tokens_are_new_each_time_and_old_ones_stay_good(plane: Plane, clock: ManualClock) -> None:
    snapshot_id = plane.make({0: 1})
    (old,) = page_of(plane, snapshot_id, PageRequest()).blocks
    (new,) = page_of(plane, snapshot_id, PageRequest()).blocks
    assert old.token != new.token
    clock.advance(BLOCK_TOKEN_SECONDS - 1)
    for token in (old.token, new.token):
        assert seed_of(get_block(plane.region, plane.access, snapshot_id, 0, token)) == 1
    clock.advance(1)
    with pytest.raises(BlockTokenInvalid, match=rf"^The block token {old.token} is invalid\.$"):
        get_block(plane.region, plane.access, snapshot_id, 0, old.token)


def test_a_page_token_is_good_for_an_hour(plane: Plane, clock: ManualClock) -> None:
    snapshot_id = plane.make({0: 1, 1: 1})
    token = page_of(plane, snapshot_id, PageRequest(max_results=1)).next_token
    clock.advance(PAGE_TOKEN_SECONDS - 1)
    assert page_of(plane, snapshot_id, PageRequest(token=token)).blocks
    clock.advance(1)
    with pytest.raises(PageTokenInvalid, match=rf"^The pagination token {token} is invalid\.$"):
        page_of(plane, snapshot_id, PageRequest(token=token))


def test_a_token_is_good_for_its_own_block_snapshot_and_list_only(plane: Plane) -> None:
    parent = plane.make({0: 1, 1: 1})
    child = plane.make({0: 2}, parent)
    page = page_of(plane, parent, PageRequest(max_results=1))
    token, next_token = page.blocks[0].token, page.next_token
    for snapshot_id, index in ((parent, 1), (child, 0), (child, 1)):
        with pytest.raises(BlockTokenInvalid):
            get_block(plane.region, plane.access, snapshot_id, index, token)
    with pytest.raises(PageTokenInvalid):
        page_of(plane, child, PageRequest(token=next_token))
    with pytest.raises(PageTokenInvalid):
        page_of(plane, parent, PageRequest(token=token))
    pair = parent, child
    with pytest.raises(PageTokenInvalid):
        list_changed_blocks(plane.region, plane.access, pair, PageRequest(token=next_token))


def test_a_token_outlives_the_server(region: Region, clock: ManualClock) -> None:
    with access_to(region) as access:
        plane = Plane(region, access)
        snapshot_id = plane.make({0: 1})
        (block,) = page_of(plane, snapshot_id, PageRequest()).blocks
    again = open_store(region.home, clock=clock)
    with access_to(again) as access:
        assert seed_of(get_block(again, access, snapshot_id, 0, block.token)) == 1
    again.close()


def test_a_pending_snapshot_is_not_found(plane: Plane) -> None:
    snapshot_id = plane.start()
    plane.put(snapshot_id, {0: 1})
    with pytest.raises(SnapshotNotFound):
        page_of(plane, snapshot_id, PageRequest())


def test_a_deleted_snapshot_is_not_found(plane: Plane) -> None:
    snapshot_id = plane.make({0: 1})
    (block,) = page_of(plane, snapshot_id, PageRequest()).blocks
    delete_snapshots(plane.region, [snapshot_id])
    with pytest.raises(SnapshotNotFound):
        get_block(plane.region, plane.access, snapshot_id, 0, block.token)


def test_a_snapshot_is_found_when_the_lag_of_listing_is_over(
    plane: Plane, clock: ManualClock
) -> None:
    lagging = Plane(plane.region, BlockAccess(plane.region, listing_lag_seconds=30))
    snapshot_id = plane.make({0: 1})
    assert plane.show(snapshot_id).state is SnapshotState.COMPLETED
    clock.advance(29)
    with pytest.raises(SnapshotNotFound):
        lagging.read(snapshot_id)
    clock.advance(1)
    assert lagging.read(snapshot_id) == {0: 1}


def test_pages_of_changes_count_candidates_as_amazon_does(plane: Plane) -> None:
    """103 blocks compared with themselves at 100 a page: two pages, both empty."""
    snapshot_id = plane.make(dict.fromkeys(range(103), 1))
    assert list(plane.changes(snapshot_id, snapshot_id, page_size=100)) == [[], []]
    pair = snapshot_id, snapshot_id
    page = list_changed_blocks(plane.region, plane.access, pair, PageRequest(max_results=100))
    assert not page.is_end
    last = PageRequest(max_results=100, token=page.next_token)
    assert list_changed_blocks(plane.region, plane.access, pair, last).is_end


def test_siblings_are_related_whatever_became_of_their_parent(plane: Plane) -> None:
    parent = plane.make({0: 1})
    first, second = plane.make({1: 1}, parent), plane.make({1: 1}, parent)
    grandchild = plane.make({2: 2}, first)
    delete_snapshots(plane.region, [parent])
    assert merged_changes(plane.changes(first, second)) == {1: (True, True)}
    assert merged_changes(plane.changes(second, grandchild)) == {1: (True, True), 2: (False, True)}


def test_snapshots_of_two_lineages_are_not_compared(plane: Plane) -> None:
    with pytest.raises(UnrelatedSnapshots):
        next(plane.changes(plane.make({0: 1}), plane.make({0: 1})))


def test_snapshots_of_a_disk_are_listed_compared_and_built_on(
    plane: Plane, tmp_path: Path
) -> None:
    disk = write_disk(tmp_path / "disk", 300 * DIRECT_BLOCK + 1000, {0: direct_block(1)})
    change_disk(disk, {299: direct_block(2), 300: direct_block(3), 7: direct_block(0)})
    options = SnapshotOptions(thread_count=1)
    first = take(plane.region, disk, options)
    change_disk(disk, {5: direct_block(4)})
    second = take(plane.region, disk, options)
    blocks = page_of(plane, first, PageRequest()).blocks
    assert [block.block_index for block in blocks] == [0, 299, 300]
    last = get_block(plane.region, plane.access, SnapshotId(first), 300, blocks[-1].token)
    assert bytes(last) == direct_block(3)[:1000] + bytes(DIRECT_BLOCK - 1000)
    assert merged_changes(plane.changes(first, second)) == {5: (False, True)}
    child = plane.make({0: 1}, second)
    assert merged_changes(plane.changes(first, child)) == {0: (True, True), 5: (False, True)}


def test_a_snapshot_in_blocks_of_another_size_is_no_parent(plane: Plane, tmp_path: Path) -> None:
    disk = write_disk(tmp_path / "disk", 1 << 20, {0: bytes([1]) * 4096})
    snapshot_id = SnapshotId(take(plane.region, disk, SMALL))
    with pytest.raises(ForeignBlockSize, match=r"blocks of 4\.00 KiB"):
        plane.start(snapshot_id)


def test_the_cost_of_a_page_is_independent_of_its_position(plane: Plane) -> None:
    """Leaves and inner nodes read for one page, at the front and at the back."""
    snapshot_id = plane.make({index * 16: 1 for index in range(128)})
    costs = []
    for start in (0, 1600):
        with access_to(plane.region) as access:
            fresh = replace(plane, access=access)
            before = access.nodes.load_count
            page_of(fresh, snapshot_id, PageRequest(start, max_results=8))
            costs.append(access.nodes.load_count - before)
    assert costs == [3, 3]


def test_the_cost_of_comparing_large_maps_follows_what_was_written(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = plane.make({index * 16: 1 for index in range(128)})
    child = plane.make({160: 2}, parent)
    monkeypatch.setattr(changed_module, "COUNTED_BLOCKS_MAX", 100)
    before = plane.access.nodes.load_count
    assert merged_changes(plane.changes(parent, child)) == {160: (True, True)}
    assert plane.access.nodes.load_count - before == 4
