"""Listing by filters: what the indexes find is what looking at every snapshot finds."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.catalog.audience import Audience
from ebsim.catalog.records import put_snapshot, remove_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState, seen_by
from ebsim.catalog.snapshot_filter import Filter, fits
from ebsim.catalog.snapshot_index import has_terms_indexed
from ebsim.engine.check_store import check_store
from ebsim.engine.list_snapshots import list_snapshots
from ebsim.engine.region import Region
from ebsim.ids import SnapshotId, VolumeId
from ebsim.metadata.memory_metadata import MemoryMetadata
from ebsim.metadata.transactions import Reader, Table
from tests.engine.damaged_stores import Store, make_store, three_snapshots
from tests.engine.stores import ACCOUNT, OTHER_ACCOUNT, open_store

T = TypeVar("T")

VALUES = ["", "x", "y", "é" * 255, "*"]
KEYS = ["env", "a:b", "é" * 127]
WANTED = st.lists(st.sampled_from([*VALUES, "?", "x*", "nowhere"]), min_size=1, max_size=3)

tag_sets = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=2)


def snapshot_id(number: int) -> SnapshotId:
    return SnapshotId(f"snap-{number:017x}")


def volume_id(number: int) -> VolumeId:
    return VolumeId(f"vol-{number:017x}")


@st.composite
def catalogs(draw: st.DrawFn) -> list[Snapshot]:
    """Snapshots of two accounts, some shared, some public, many begun at one time."""
    return [
        Snapshot(
            snapshot_id=snapshot_id(number),
            volume_id=volume_id(draw(st.integers(0, 2))),
            owner_id=draw(st.sampled_from([ACCOUNT, OTHER_ACCOUNT])),
            state=draw(st.sampled_from(SnapshotState)),
            start_time_ns=draw(st.integers(0, 3)),
            size_bytes=1,
            block_size=4096,
            generation=1,
            tags=draw(tag_sets),
            shared_with=draw(st.sampled_from([(), (ACCOUNT,), (OTHER_ACCOUNT,)])),
            is_public=draw(st.booleans()),
            foreign_tags=draw(st.dictionaries(st.just(ACCOUNT), tag_sets, max_size=1)),
        )
        for number in range(draw(st.integers(0, 12)))
    ]


def filters_of(name: str, values: st.SearchStrategy[list[str]]) -> st.SearchStrategy[Filter]:
    return values.map(lambda found: Filter(name, found))


def some_of(texts: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(texts), min_size=1, max_size=3)


filter_lists = st.lists(
    st.one_of(
        filters_of("status", some_of(["pending", "completed", "error", "p*", "recoverable", ""])),
        filters_of("tag-key", some_of([*KEYS, "env*", "none"])),
        filters_of("snapshot-id", some_of([*map(snapshot_id, range(13)), "snap-*", "x" * 999])),
        filters_of("volume-id", some_of([*map(volume_id, range(4)), "vol-?*", "x" * 999])),
        *(filters_of(f"tag:{key}", WANTED) for key in KEYS),
    ),
    max_size=3,
)
audiences = st.builds(
    lambda owners, by: Audience.of(ACCOUNT, owners=owners, restorable_by=by),
    st.lists(st.sampled_from(["self", OTHER_ACCOUNT]), max_size=2),
    st.lists(st.sampled_from(["self", "all", OTHER_ACCOUNT]), max_size=2),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    """What is beside the metadata, which each example has of its own."""
    home = tmp_path_factory.mktemp("filters") / "home"
    with closing(open_store(home, random=Random(0))) as region:
        yield region


def with_catalog(store: Region, snapshots: Sequence[Snapshot]) -> Region:
    region = replace(store, metadata=MemoryMetadata())
    for one in snapshots:
        region.metadata.run(lambda txn: put_snapshot(txn, one))  # noqa: B023 (called at once)
    return region


def listed(
    region: Region, filters: Sequence[Filter], audience: Audience, page_size: int | None
) -> list[str]:
    """The ids of all pages."""
    found: list[str] = []
    token = None
    while True:
        page = list_snapshots(
            region, filters, audience=audience, max_results=page_size, next_token=token
        )
        found += [one.snapshot_id for one in page.snapshots]
        token = page.next_token
        if token is None:
            return found


@given(catalogs(), filter_lists, audiences, st.none() | st.integers(1, 4))
def test_a_listing_is_what_looking_at_every_snapshot_finds(
    store: Region,
    snapshots: list[Snapshot],
    filters: list[Filter],
    audience: Audience,
    page_size: int | None,
) -> None:
    region = with_catalog(store, snapshots)

    def shown(reader: Reader) -> list[str]:
        ordered = sorted(snapshots, key=lambda one: (one.start_time_ns, one.snapshot_id))
        return [
            one.snapshot_id
            for one in ordered
            if audience.shows(reader, one) and fits(seen_by(one, ACCOUNT), filters)
        ]

    assert listed(region, filters, audience, page_size) == region.metadata.read(shown)


@given(catalogs(), catalogs())
def test_rows_follow_every_change_and_go_with_the_snapshot(
    store: Region, before: list[Snapshot], after: list[Snapshot]
) -> None:
    region = with_catalog(store, [*before, *after])
    fresh = with_catalog(store, [*{one.snapshot_id: one for one in [*before, *after]}.values()])
    for table in Table:
        assert rows_of(region, table) == rows_of(fresh, table)
    for one in {one.snapshot_id: one for one in [*before, *after]}.values():
        region.metadata.run(lambda txn: remove_snapshot(txn, one))  # noqa: B023 (called at once)
    assert all(rows_of(region, table) == [] for table in Table)


def rows_of(region: Region, table: Table) -> list[tuple[bytes, bytes]]:
    return region.metadata.read(lambda reader: reader.scan(table, limit=10_000))


class CountingMetadata(MemoryMetadata):
    """Counts the snapshots that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read_count = 0

    def read(self, look: Callable[[Reader], T]) -> T:
        def counted(reader: Reader) -> T:
            return look(_CountingReader(reader, self))

        return super().read(counted)


class _CountingReader:
    def __init__(self, reader: Reader, counter: CountingMetadata) -> None:
        self._reader = reader
        self._counter = counter
        self.scan = reader.scan

    def get_many(self, table: Table, keys: Sequence[bytes]) -> list[bytes | None]:
        if table is Table.SNAPSHOTS:
            self._counter.read_count += len(keys)
        return self._reader.get_many(table, keys)


@pytest.mark.parametrize(
    "chosen",
    [
        Filter("snapshot-id", [snapshot_id(7), snapshot_id(107)]),
        Filter("volume-id", [volume_id(7)]),
        Filter("status", ["error"]),
        Filter("tag:env", ["7"]),
        Filter("tag-key", ["seven"]),
    ],
    ids=lambda one: one.name,
)
def test_a_filter_reads_what_it_lets_through_and_no_other_snapshot(
    store: Region, chosen: Filter
) -> None:
    metadata = CountingMetadata()
    region = replace(store, metadata=metadata)
    for number in range(200):
        is_it = number % 100 == 7
        one = Snapshot(
            snapshot_id(number), volume_id(number % 100), ACCOUNT,
            SnapshotState.ERROR if is_it else SnapshotState.COMPLETED,
            start_time_ns=number, size_bytes=1, block_size=4096, generation=1,
            tags={"env": str(number % 100), **({"seven": ""} if is_it else {})},
        )  # fmt: skip
        metadata.run(lambda txn: put_snapshot(txn, one))  # noqa: B023 (called at once)
    found = list_snapshots(region, [chosen]).snapshots
    assert [one.snapshot_id for one in found] == [snapshot_id(7), snapshot_id(107)]
    # By ids they are read once more to know in which order they come.
    assert metadata.read_count == (4 if chosen.name == "snapshot-id" else 2)


def test_a_store_of_an_earlier_version_is_indexed_when_it_is_opened(tmp_path: Path) -> None:
    store: Store = make_store(tmp_path)
    three_snapshots(store)
    with store.open() as region:
        before = rows_of(region, Table.SNAPSHOTS_BY_TERM)
        assert region.metadata.read(has_terms_indexed)
    store.drop_rows(Table.SNAPSHOTS_BY_TERM)
    store.change(lambda txn: txn.delete_many(Table.STORE, [b"terms_indexed"]))
    with store.open() as region:
        assert rows_of(region, Table.SNAPSHOTS_BY_TERM) == before != []
        assert region.metadata.read(has_terms_indexed)
        assert check_store(region).findings == []
