"""Snapshots written block by block, and the store: threads, servers, packs, a rebuild."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from ebsim.catalog.records import find_snapshot, remove_snapshot
from ebsim.catalog.retention_rule import ResourceType
from ebsim.chunkstore.pack_format import HEADER_SIZE
from ebsim.clock import ManualClock
from ebsim.content.digest import block_digest
from ebsim.engine.check_store import check_store
from ebsim.engine.compact_store import compact_store
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.region import Region
from ebsim.engine.retention_rules import RuleRequest, create_rule
from ebsim.metadata.transactions import Metadata, Reader, Transaction
from tests.engine.direct_snapshots import Plane, access_to, direct_block
from tests.engine.stores import open_store

T = TypeVar("T")


@pytest.fixture
def plane(region: Region) -> Iterator[Plane]:
    with access_to(region) as access:
        yield Plane(region, access)


def test_many_threads_share_their_syncs_and_lose_nothing(plane: Plane) -> None:
    snapshot_id = plane.start()
    seeds = {index: index % 50 for index in range(96)}

    def put_every_eighth(first: int) -> None:
        plane.put(snapshot_id, {i: seeds[i] for i in range(first, 96, 8)})

    threads = [threading.Thread(target=put_every_eighth, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    plane.complete(snapshot_id, 96)
    assert plane.read(snapshot_id) == seeds
    assert plane.access.puts.group_count < 96


def test_two_processes_put_to_one_snapshot(plane: Plane) -> None:
    snapshot_id = plane.start()
    with access_to(plane.region) as second_access:
        second = Plane(plane.region, second_access)
        plane.put(snapshot_id, {0: 1, 1: 1})
        second.put(snapshot_id, {1: 2, 2: 2})
        plane.put(snapshot_id, {2: 3})
        second.complete(snapshot_id, 3)
    assert plane.read(snapshot_id) == {0: 1, 1: 2, 2: 3}


def test_a_pending_snapshot_outlives_the_server(region: Region, clock: ManualClock) -> None:
    with access_to(region) as access:
        before = Plane(region, access)
        snapshot_id = before.start(before.make({0: 1, 9: 9}))
        before.put(snapshot_id, {0: 2})
    again = open_store(region.home, clock=clock, random=Random("again"))
    with access_to(again) as access:
        after = Plane(again, access)
        after.put(snapshot_id, {1: 3})
        after.complete(snapshot_id, 2)
        assert after.read(snapshot_id) == {0: 2, 1: 3, 9: 9}
    again.close()


def test_small_packs_are_merged_when_the_session_is_over(plane: Plane) -> None:
    snapshot_id = plane.start()
    plane.put(snapshot_id, {index: index + 1 for index in range(6)})
    assert len(list(plane.region.backend.names("packs"))) == 6
    plane.access.close()
    assert len(list(plane.region.backend.names("packs"))) == 1
    plane.complete(snapshot_id, 6)
    assert plane.read(snapshot_id) == {index: index + 1 for index in range(6)}


def test_a_session_that_is_idle_is_ended(plane: Plane, clock: ManualClock) -> None:
    snapshot_id = plane.start()
    plane.put(snapshot_id, {0: 1})
    plane.access.puts.end_idle_session()
    assert len(list((plane.region.path / "sessions").iterdir())) == 1
    clock.advance(6)
    plane.access.puts.end_idle_session()
    assert list((plane.region.path / "sessions").iterdir()) == []
    plane.put(snapshot_id, {0: 2})
    plane.complete(snapshot_id, 1)
    assert plane.read(snapshot_id) == {0: 2}


def test_the_store_checks_and_compacts_beside_pending_snapshots(plane: Plane) -> None:
    snapshot_id = plane.start(plane.make({5: 5}))
    plane.put(snapshot_id, {0: 1, 1: 2})
    plane.access.close()
    assert check_store(plane.region, read_data=True).findings == []
    compact_store(plane.region)
    assert check_store(plane.region, read_data=True).findings == []
    plane.complete(snapshot_id, 2)
    assert plane.read(snapshot_id) == {0: 1, 1: 2, 5: 5}


def test_a_rebuild_brings_completed_snapshots_and_their_lineage_back(tmp_path: Path) -> None:
    region = open_store(tmp_path / "home", random=Random(1))
    with access_to(region) as access:
        plane = Plane(region, access)
        parent = plane.make({0: 1, 1: 2})
        children = [plane.make({1: 1}, parent), plane.make({2: 2}, parent)]
        plane.put(plane.start(), {0: 7})
        delete_snapshots(region, [parent])
        (tokens,) = plane.changes(children[0], children[1])
    region.close()
    rebuild_store(tmp_path / "home", "test")
    region = open_store(tmp_path / "home", random=Random(2))
    with access_to(region) as access:
        plane = Plane(region, access)
        assert plane.read(children[0]) == {0: 1, 1: 1}
        (changes,) = plane.changes(children[0], children[1])
        assert [c.block_index for c in changes] == [c.block_index for c in tokens] == [1, 2]
    region.close()


def test_what_is_not_completed_does_not_go_into_the_recycle_bin(plane: Plane) -> None:
    create_rule(plane.region, RuleRequest(ResourceType.SNAPSHOT, 1))
    pending, failed = plane.start(), plane.start()
    plane.put(pending, {0: 1})
    plane.complete(failed, 9)
    delete_snapshots(plane.region, [pending, failed])
    gone = [
        plane.region.metadata.read(lambda reader, one=one: find_snapshot(reader, one))
        for one in (pending, failed)
    ]
    assert gone == [None, None]


class Interfering:
    """Metadata that lets somebody else act before the next transaction, once."""

    def __init__(self, inner: Metadata, act: Callable[[], object]) -> None:
        self._inner = inner
        self._act: Callable[[], object] | None = act

    def read(self, fn: Callable[[Reader], T]) -> T:
        return self._inner.read(fn)

    def run(self, fn: Callable[[Transaction], T]) -> T:
        act, self._act = self._act, None
        if act is not None:
            act()
        return self._inner.run(fn)

    def close(self) -> None:
        self._inner.close()


def test_a_block_that_is_deleted_while_it_is_put_again_is_written_again(plane: Plane) -> None:
    other = plane.make({0: 1})
    snapshot_id = plane.start()
    plane.put(snapshot_id, {9: 9})  # so that a session is open

    def delete() -> None:
        assert delete_snapshots(plane.region, [other]).chunk_count > 0

    metadata = Interfering(plane.region.metadata, delete)
    with access_to(replace(plane.region, metadata=metadata)) as access:
        # The store has it when it is looked up, and not when it is committed.
        Plane(plane.region, access).put(snapshot_id, {0: 1, 1: 2})
    plane.complete(snapshot_id, 3)
    assert plane.read(snapshot_id) == {0: 1, 1: 2, 9: 9}


def test_a_damaged_block_is_healed_by_a_put_of_its_bytes(plane: Plane) -> None:
    first = plane.make({0: 1})
    plane.access.close()
    digest = block_digest(direct_block(1))
    (found,) = plane.region.chunks.find([digest])
    assert found is not None
    pack = plane.region.path / found.pack_name
    pack.chmod(0o644)
    with pack.open("r+b") as file:
        file.seek(found.location.offset + HEADER_SIZE)
        file.write(b"rot")
    assert check_store(plane.region, read_data=True, repair=True).findings != []
    second = plane.start()
    plane.put(second, {5: 1})
    plane.complete(second, 1)
    assert plane.read(first) == {0: 1}
    assert plane.read(second) == {5: 1}
    compact_store(plane.region)  # the pack that rotted has nothing live in it


def test_a_check_finds_and_drops_what_no_pending_snapshot_needs(plane: Plane) -> None:
    snapshot_id = plane.start()
    plane.put(snapshot_id, {0: 1})
    plane.access.close()
    pending = plane.region.metadata.read(lambda reader: find_snapshot(reader, snapshot_id))
    assert pending is not None
    plane.region.metadata.run(lambda txn: remove_snapshot(txn, pending))
    found = [one.where for one in check_store(plane.region, read_data=False).findings]
    assert any(snapshot_id in where for where in found)
    check_store(plane.region, read_data=False, repair=True)
    assert check_store(plane.region, read_data=True).findings == []
