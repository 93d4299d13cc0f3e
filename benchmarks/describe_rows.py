"""DescribeSnapshots of a region with ten thousand snapshots: from the request to the XML.

Answered in this process and measured in the thread's processor time: on a machine that
does nothing else that is what it takes, and what else runs does not count.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from statistics import median
from urllib.parse import urlencode

from benchmarks.results import Figure, significant
from benchmarks.scratch import scratch_folder
from benchmarks.service_table import DESCRIBE_MS_MAX
from ebsim.api.dispatch import Desk, answer
from ebsim.api.http_messages import Request
from ebsim.api.identity import Auth
from ebsim.api.metrics import Metrics
from ebsim.api.regions import Regions
from ebsim.api.work import Work
from ebsim.catalog.records import put_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.cli.settings import DEFAULT_ACCOUNT, DEFAULT_REGION
from ebsim.clock import SystemClock
from ebsim.durable_files import Files
from ebsim.ids import AccountId, SnapshotId, VolumeId
from ebsim.metadata.transactions import Transaction
from ebsim.units import GIB, KIB

SNAPSHOT_COUNT = 10_000
PAGE_SIZE = 1000
FILTERED_COUNT = 100
"""How many a filter lets through; ids, of which a request may name 200, are as many."""

_OWNER = AccountId(DEFAULT_ACCOUNT)
_SECOND_NS = 10**9
Fields = Sequence[tuple[str, str]]


def describe_figures(
    folder: Path,
    runs: int,
    *,
    snapshot_count: int = SNAPSHOT_COUNT,
    page_size: int = PAGE_SIZE,
    filtered_count: int = FILTERED_COUNT,
) -> list[Figure]:
    """The rows of DescribeSnapshots."""
    every = snapshot_count // filtered_count
    chosen = [_snapshot(every * n, every) for n in range(filtered_count)]
    names = [("snapshot-id", one.snapshot_id) for one in chosen]
    asked: dict[str, tuple[Fields, int]] = {
        "describe_page": ([("MaxResults", str(page_size))], page_size),
        "describe_id": (_filter(names), filtered_count),
        "describe_volume": (_filter([("volume-id", chosen[0].volume_id)]), filtered_count),
        "describe_tag": (_filter([("tag:group", "0")]), filtered_count),
        "describe_state": (_filter([("status", "error")]), filtered_count),
    }
    with scratch_folder(folder) as scratch, closing(_regions(scratch / "home")) as regions:
        region = regions.region(DEFAULT_REGION, create=True)

        def put(txn: Transaction) -> None:
            for number in range(snapshot_count):
                put_snapshot(txn, _snapshot(number, every))

        region.metadata.run(put)
        with closing(Work(_fail)) as work:
            desk = _desk(regions, work)
            rounds = [
                {key: _answered_ms(desk, *one) for key, one in asked.items()}
                for _ in range(runs + 1)
            ]
    detail = {"snapshot_count": snapshot_count, "page_size": page_size}
    # The first round reads the models and from the disk.
    return [_figure(key, [one[key] for one in rounds[1:]], detail) for key in asked]


def _figure(key: str, ms: list[float], detail: dict[str, int]) -> Figure:
    middle = median(ms)
    return Figure(key, ms, middle <= DESCRIBE_MS_MAX, f"{significant(middle)} ms", detail)


def _snapshot(number: int, every: int) -> Snapshot:
    """One of *every* is of the first volume, failed, and of the first group."""
    group = number % every
    return Snapshot(
        snapshot_id=SnapshotId(f"snap-{number:017x}"),
        volume_id=VolumeId(f"vol-{group:017x}"),
        owner_id=_OWNER,
        state=SnapshotState.COMPLETED if group else SnapshotState.ERROR,
        start_time_ns=number * _SECOND_NS,
        completion_time_ns=number * _SECOND_NS,
        size_bytes=GIB,
        block_size=512 * KIB,
        generation=number,
        description=f"number {number}",
        tags={"Name": f"disk {number}", "group": str(group)},
    )


def _filter(pairs: Sequence[tuple[str, str]]) -> Fields:
    """A filter on the name that all *pairs* have, by any of their values."""
    values = [(f"Filter.1.Value.{n}", value) for n, (_, value) in enumerate(pairs, 1)]
    return [("Filter.1.Name", pairs[0][0]), *values, ("MaxResults", "1000")]


def _regions(home: Path) -> Regions:
    return Regions(home, Files(), SystemClock(), Random(1), tell_bug=_fail)


def _desk(regions: Regions, work: Work) -> Desk:
    return Desk(
        regions=regions,
        work=work,
        find_key=_no_key,
        auth=Auth.NONE,
        clock=SystemClock(),
        random=Random(2),
        metrics=Metrics(),
        default_region=DEFAULT_REGION,
        default_account=_OWNER,
        tell_bug=_fail,
    )


def _no_key(key_id: str) -> None:
    """Nobody has a key: without verification none is needed."""
    del key_id


def _answered_ms(desk: Desk, asked: Fields, expected_count: int) -> float:
    fields = [("Action", "DescribeSnapshots"), ("Version", "2016-11-15"), *asked]
    body = urlencode(fields).encode()
    begun_ns = time.thread_time_ns()
    found = answer(desk, Request("POST", "/", headers={"host": "ec2"}, body=body))
    used_ns = time.thread_time_ns() - begun_ns
    assert found.status == 200, found.body
    count = found.body.count(b"<snapshotId>")
    assert count == expected_count, f"{count} snapshots for {asked[0]}"
    return used_ns / 1e6


def _fail(what: str) -> None:
    raise AssertionError(what)
