"""Listing blocks and changes of volumes of two million blocks: the verbs, tokens included."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median

from benchmarks.mapped_snapshots import mapped_snapshot
from benchmarks.results import Figure, significant
from benchmarks.scratch import scratch_folder
from benchmarks.service_table import GROWTH_MAX
from ebsim.blockmap.geometry import FAN_OUT
from ebsim.catalog.snapshot import Snapshot
from ebsim.cli.settings import DEFAULT_ACCOUNT, DEFAULT_REGION
from ebsim.engine.direct.block_access import BlockAccess
from ebsim.engine.direct.list_blocks import PageRequest, list_blocks
from ebsim.engine.direct.list_changed_blocks import list_changed_blocks
from ebsim.engine.region import Region, open_region
from ebsim.ids import AccountId

BLOCK_COUNT = 2**21
MANY_LEAVES, FEW_LEAVES = 2000, 200


def listing_figures(
    folder: Path,
    runs: int,
    *,
    block_count: int = BLOCK_COUNT,
    leaf_counts: tuple[int, int] = (MANY_LEAVES, FEW_LEAVES),
    page_size: int = 10_000,
) -> list[Figure]:
    """The rows of listing."""
    with scratch_folder(folder) as scratch:
        region = open_region(scratch / "home", DEFAULT_REGION, AccountId(DEFAULT_ACCOUNT))
        with closing(region), closing(BlockAccess(region)) as access:
            full = mapped_snapshot(region, None, range(block_count), block_count)
            pages = _Pages(region, access, page_size)
            return [
                *_list_figures(pages, full, runs),
                *_changed_figures(pages, full, leaf_counts, runs),
            ]


class _Pages:
    """Lists of a region, and how long they take."""

    def __init__(self, region: Region, access: BlockAccess, page_size: int) -> None:
        self.region = region
        self.page_size = page_size
        self._access = access

    def page_seconds(self, snapshot: Snapshot, start: int) -> float:
        """One page of a snapshot's blocks, from *start* on."""
        request = PageRequest(start, self.page_size)

        def list_page() -> None:
            page = list_blocks(self.region, self._access, snapshot.snapshot_id, request)
            assert [page.blocks[0].block_index, len(page.blocks)] == [start, self.page_size]

        return _seconds(list_page)

    def changes_seconds(self, first: Snapshot, second: Snapshot, count: int) -> float:
        """All pages of what changed between two, which is *count* blocks."""
        pair = first.snapshot_id, second.snapshot_id

        def list_all() -> None:
            found, token = 0, None
            while True:
                request = PageRequest(0, self.page_size, token)
                page = list_changed_blocks(self.region, self._access, pair, request)
                found, token = found + len(page.changes), page.next_token
                if token is None:
                    assert found == count, f"{found} of {count} changes"
                    return

        return _seconds(list_all)


def _seconds(work: Callable[[], None]) -> float:
    begun_ns = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - begun_ns) / 1e9


def _list_figures(pages: _Pages, full: Snapshot, runs: int) -> list[Figure]:
    starts = (0, full.block_count // 2, full.block_count - pages.page_size)
    # By turns, so that a machine that grows slower meanwhile favours none; the first round
    # reads from the disk what the others have in memory.
    rounds = [[pages.page_seconds(full, start) for start in starts] for _ in range(runs + 1)]
    timed = rounds[1:]
    ms = [middle * 1000 for _, middle, _ in timed]
    growth = [last / first for first, _, last in timed]
    shown = f"{significant(median(ms))} ms"
    detail = {"block_count": full.block_count, "page_size": pages.page_size}
    return [
        Figure("list_page", ms, None, shown, detail),
        _growth_figure("list_growth", growth),
    ]


def _changed_figures(
    pages: _Pages, full: Snapshot, leaf_counts: tuple[int, int], runs: int
) -> list[Figure]:
    region, block_count = pages.region, full.block_count
    one = mapped_snapshot(region, full, [block_count // 2], block_count)
    ms = [pages.changes_seconds(full, one, 1) * 1000 for _ in range(runs)]
    leaf_total = block_count // FAN_OUT
    pairs = [
        (count, mapped_snapshot(region, full, _one_a_leaf(count, leaf_total), block_count))
        for count in leaf_counts
    ]
    growth = []
    for _ in range(runs):
        many, few = (pages.changes_seconds(full, other, n) / n for n, other in pairs)
        growth.append(many / few)
    shown = f"{significant(median(ms))} ms"
    return [
        Figure("changed_one", ms, None, shown, {"block_count": block_count}),
        _growth_figure("changed_growth", growth),
    ]


def _one_a_leaf(count: int, leaf_total: int) -> list[int]:
    """A block of each of *count* leaves, evenly spread."""
    return [number * leaf_total // count * FAN_OUT for number in range(count)]


def _growth_figure(key: str, growth: list[float]) -> Figure:
    middle = median(growth)
    return Figure(key, growth, middle <= GROWTH_MAX, f"{middle:.2f} times")
