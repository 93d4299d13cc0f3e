"""Listing, naming, tagging and comparing snapshots, against plain models of them."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebsim.catalog.snapshot import Snapshot, SnapshotState, encode_snapshot, seen_by
from ebsim.catalog.snapshot_filter import Filter, fits, may_fit
from ebsim.clock import ManualClock
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.diff_snapshots import BlockDifference, ByteRange, diff_snapshots, ranges_of
from ebsim.engine.list_snapshots import list_snapshots, show_snapshot
from ebsim.engine.list_volumes import list_volumes, show_volume
from ebsim.engine.region import Region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.tags import tag_snapshot, untag_snapshot
from ebsim.errors import InvalidRequest, SnapshotNotFound
from ebsim.ids import SnapshotId, VolumeId
from tests.engine.stores import (
    ACCOUNT,
    BLOCK,
    KIB,
    OTHER_ACCOUNT,
    SMALL,
    block_bytes,
    open_store,
    take,
    write_disk,
)

TAGS: list[dict[str, str]] = [{}, {"env": "test"}, {"env": "live"}, {"env": "test", "a*b": "x"}]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Region, list[Snapshot]]]:
    """Two volumes, twelve snapshots of each in turn, one second apart."""
    folder = tmp_path_factory.mktemp("listed")
    clock = ManualClock()
    region = open_store(folder / "home", clock=clock, random=Random(3))
    disks = [
        write_disk(folder / name, 4 * BLOCK, {0: block_bytes(number)})
        for number, name in enumerate(("one", "two"))
    ]
    taken = []
    for number in range(24):
        options = SnapshotOptions(
            description=f"number {number}", tags=TAGS[number % len(TAGS)], block_size=BLOCK
        )
        taken.append(create_snapshot(region, str(disks[number % 2]), options))
        clock.advance(1)
    yield region, taken
    region.close()


def names(snapshots: object) -> list[str]:
    return [snapshot.snapshot_id for snapshot in snapshots]  # type: ignore[attr-defined]  # both lists


@given(page_size=st.integers(1, 30))
def test_pages_put_together_are_the_whole_list(
    listed: tuple[Region, list[Snapshot]], page_size: int
) -> None:
    region, taken = listed
    found: list[str] = []
    token = None
    while True:
        page = list_snapshots(region, max_results=page_size, next_token=token)
        assert len(page.snapshots) <= page_size
        found += names(page.snapshots)
        token = page.next_token
        if token is None:
            break
    assert found == names(taken)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    volume=st.sampled_from([None, 0, 1]),
    env=st.sampled_from([None, "test", "live", "t*", "?est", "none"]),
    description=st.sampled_from([None, "number 1?", "*3", "number 5"]),
    page_size=st.none() | st.integers(1, 5),
)
def test_filters_let_through_what_the_model_lets_through(
    listed: tuple[Region, list[Snapshot]],
    volume: int | None,
    env: str | None,
    description: str | None,
    page_size: int | None,
) -> None:
    region, taken = listed
    filters = []
    wanted = taken
    if volume is not None:
        filters.append(Filter("volume-id", [taken[volume].volume_id]))
        wanted = [one for one in wanted if one.volume_id == taken[volume].volume_id]
    if env is not None:
        filters.append(Filter("tag:env", [env]))
        fitting = {"t*": "test", "?est": "test"}.get(env, env)
        wanted = [one for one in wanted if one.tags.get("env") == fitting]
    if description is not None:
        filters.append(Filter("description", [description]))
        fit = {
            "number 1?": lambda n: 10 <= n <= 19,
            "*3": lambda n: n % 10 == 3,
            "number 5": lambda n: n == 5,
        }[description]
        wanted = [one for one in wanted if fit(int(one.description.split()[1]))]
    page = list_snapshots(region, filters, max_results=page_size)
    assert names(page.snapshots) == names(wanted[:page_size])
    assert (page.next_token is not None) == (page_size is not None and len(wanted) > page_size)


def test_a_literal_star_is_found_by_its_escape(
    listed: tuple[Region, list[Snapshot]],
) -> None:
    region, taken = listed
    found = list_snapshots(region, [Filter("tag-key", [r"a\*b"])]).snapshots
    assert names(found) == names(taken[3::4])


@pytest.mark.parametrize(
    "filters", [[Filter("colour", ["x"])], [Filter("tag:", ["x"])], [Filter("status", [])]]
)
def test_a_filter_that_is_none_is_refused(
    listed: tuple[Region, list[Snapshot]], filters: list[Filter]
) -> None:
    with pytest.raises(InvalidRequest, match="filter"):
        list_snapshots(listed[0], filters)


@pytest.mark.parametrize("max_results", [0, -1, 1001])
def test_a_page_size_out_of_range_is_refused(
    listed: tuple[Region, list[Snapshot]], max_results: int
) -> None:
    with pytest.raises(InvalidRequest, match="expected 1 to 1000"):
        list_snapshots(listed[0], max_results=max_results)


@pytest.mark.parametrize("token", ["x", "äöü", "AAAA AAAA", "===="])
def test_a_token_that_no_listing_gave_is_refused_or_ends_the_list(
    listed: tuple[Region, list[Snapshot]], token: str
) -> None:
    with pytest.raises(InvalidRequest, match="no token"):
        list_snapshots(listed[0], next_token=token)


def test_an_id_may_be_shortened_while_it_fits_one_snapshot(
    listed: tuple[Region, list[Snapshot]],
) -> None:
    region, taken = listed
    for snapshot in taken:
        whole = snapshot.snapshot_id
        for length in range(6, len(whole) + 1):
            prefix = whole[:length]
            fitting = [one for one in names(taken) if one.startswith(prefix)]
            if len(fitting) == 1:
                assert show_snapshot(region, prefix).snapshot_id == whole
            else:
                with pytest.raises(InvalidRequest, match="fits several snapshots"):
                    show_snapshot(region, prefix)
    with pytest.raises(SnapshotNotFound):
        show_snapshot(region, "snap-00000000000000000")


def test_volumes_are_listed_with_where_they_come_from(
    listed: tuple[Region, list[Snapshot]],
) -> None:
    region, taken = listed
    volumes = {volume.volume_id: volume for volume in list_volumes(region)}
    assert volumes.keys() == {snapshot.volume_id for snapshot in taken}
    for volume in volumes.values():
        assert Path(volume.location).name in {"one", "two"}
        assert (volume.size_bytes, volume.block_size) == (4 * BLOCK, BLOCK)
        assert show_volume(region, volume.volume_id) == volume


def test_tags_are_set_replaced_and_removed(region: Region, tmp_path: Path) -> None:
    snapshot_id = take(region, write_disk(tmp_path / "d.img", BLOCK, {0: block_bytes(1)}))
    tag_snapshot(region, snapshot_id, {"a": "1", "b": "2"})
    tag_snapshot(region, snapshot_id, {"a": "3", "c": ""})
    assert show_snapshot(region, snapshot_id).tags == {"a": "3", "b": "2", "c": ""}
    assert untag_snapshot(region, snapshot_id, ["b", "absent"]).tags == {"a": "3", "c": ""}
    with pytest.raises(InvalidRequest, match="more than 50"):
        tag_snapshot(region, snapshot_id, {f"key {number}": "" for number in range(49)})
    assert show_snapshot(region, snapshot_id).tags == {"a": "3", "c": ""}


blocks = st.dictionaries(st.sampled_from([0, 1, 126, 127, 128, 129, 255, 256]), st.integers(0, 3))


@pytest.mark.slow
@settings(max_examples=40)
@given(first=blocks, second=blocks, size=st.tuples(st.integers(1, 260), st.integers(1, 260)))
def test_a_comparison_finds_the_blocks_that_differ(
    tmp_path_factory: pytest.TempPathFactory,
    first: dict[int, int],
    second: dict[int, int],
    size: tuple[int, int],
) -> None:
    folder = tmp_path_factory.mktemp("diff")
    region = open_store(folder / "home")
    ids, models = [], []
    for number, (model, count) in enumerate(zip((first, second), size, strict=True)):
        data = {i: block_bytes(s) for i, s in model.items() if s and i < count}
        ids.append(take(region, write_disk(folder / f"{number}.img", count * BLOCK, data), SMALL))
        models.append(data)
    differing = [index for index in range(260) if models[0].get(index) != models[1].get(index)]
    found = list(diff_snapshots(region, *ids))
    assert [item.block_index for item in found] == differing
    for item in found:
        assert (item.first_digest is None) == (item.block_index not in models[0])
        assert (item.second_digest is None) == (item.block_index not in models[1])
    region.close()


def test_snapshots_of_different_block_sizes_are_not_compared(
    region: Region, tmp_path: Path
) -> None:
    one = take(region, write_disk(tmp_path / "1.img", BLOCK, {0: block_bytes(1)}))
    other = take(
        region,
        write_disk(tmp_path / "2.img", BLOCK, {0: block_bytes(1)}),
        SnapshotOptions(block_size=8 * KIB),
    )
    with pytest.raises(InvalidRequest, match="one block size"):
        list(diff_snapshots(region, one, other))


@given(indexes=st.sets(st.integers(0, 40)), size_bytes=st.integers(1, 41 * BLOCK))
def test_ranges_cover_exactly_the_blocks_within_the_disk(
    indexes: set[int], size_bytes: int
) -> None:
    inside = sorted(index for index in indexes if index * BLOCK < size_bytes)
    differences = (BlockDifference(index, None, None) for index in inside)
    ranges = list(ranges_of(differences, BLOCK, size_bytes))
    assert all(one.stop < other.start for one, other in pairwise(ranges))
    covered = {at for one in ranges for at in range(one.start, one.stop, BLOCK)}
    assert covered == {index * BLOCK for index in inside}
    assert not ranges or ranges[-1] == ByteRange(
        ranges[-1].start, min(ranges[-1].stop, size_bytes)
    )


tag_texts = st.text('ab*?\\"é\U0001f600\n', max_size=4)


@given(
    tags=st.dictionaries(tag_texts.filter(bool), tag_texts, max_size=3),
    name=st.sampled_from(["tag:a", "tag:é", "tag-key", "tag-value", "status", "snapshot-id"]),
    values=st.lists(tag_texts | st.sampled_from(["completed", "error"]), min_size=1, max_size=2),
    foreign=st.dictionaries(tag_texts.filter(bool), tag_texts, max_size=2),
)
def test_a_row_that_is_passed_over_unread_holds_nothing_that_fits(
    tags: dict[str, str], name: str, values: list[str], foreign: dict[str, str]
) -> None:
    """What another account tagged a snapshot with is in its row as well."""
    stored = Snapshot(
        SnapshotId(f"snap-{1:017x}"),
        VolumeId(f"vol-{1:017x}"),
        ACCOUNT,
        SnapshotState.COMPLETED,
        start_time_ns=1,
        size_bytes=1,
        block_size=4096,
        generation=1,
        tags=tags,
        shared_with=(OTHER_ACCOUNT,),
        foreign_tags={OTHER_ACCOUNT: foreign},
    )
    filters = [Filter(name, values)]
    for account_id in (ACCOUNT, OTHER_ACCOUNT):
        if fits(seen_by(stored, account_id), filters):
            assert may_fit(filters)(encode_snapshot(stored))
