"""Snapshots written block by block, as the tests make and read them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

from ebsim.catalog.direct_snapshot import CompletionRequest
from ebsim.catalog.records import find_snapshot
from ebsim.catalog.snapshot import Snapshot
from ebsim.engine.direct.block_access import BlockAccess
from ebsim.engine.direct.complete_direct_snapshot import complete_direct_snapshot
from ebsim.engine.direct.finish_direct_snapshot import settle_direct_snapshots
from ebsim.engine.direct.get_block import get_block
from ebsim.engine.direct.list_blocks import PageRequest, list_blocks
from ebsim.engine.direct.list_changed_blocks import ListedChange, list_changed_blocks
from ebsim.engine.direct.put_block import put_block
from ebsim.engine.direct.start_direct_snapshot import DirectOptions, start_direct_snapshot
from ebsim.engine.region import Region
from ebsim.ids import SnapshotId

DIRECT_BLOCK = 512 << 10
_PERIOD = 64


def direct_block(seed: int) -> bytes:
    """A block that no other *seed* has and that compresses to next to nothing; 0 is zeros."""
    return seed.to_bytes(_PERIOD, "little") * (DIRECT_BLOCK // _PERIOD)


def seed_of(block: bytes | bytearray | memoryview) -> int:
    """The seed of a block, all of whose bytes are as they should be."""
    seed = int.from_bytes(block[:_PERIOD], "little")
    assert block == direct_block(seed)
    return seed


@contextmanager
def access_to(region: Region) -> Iterator[BlockAccess]:
    access = BlockAccess(region)
    yield access
    access.close()


@dataclass(frozen=True, slots=True)
class Plane:
    """A region and this process's access to it; blocks are named by their seeds."""

    region: Region
    access: BlockAccess

    def start(self, parent: str | None = None, *, gib: int = 1) -> SnapshotId:
        parent_id = None if parent is None else SnapshotId(parent)
        options = DirectOptions(gib, parent_id=parent_id)
        return start_direct_snapshot(self.region, options).snapshot_id

    def put(self, snapshot_id: SnapshotId, seeds: Mapping[int, int]) -> None:
        """Put blocks by index."""
        for index, seed in seeds.items():
            data = direct_block(seed)
            block = data, sha256(data).digest()
            put_block(self.region, self.access.puts, snapshot_id, index, block)

    def complete(
        self, snapshot_id: SnapshotId, count: int, checksum: str | None = None
    ) -> Snapshot:
        """Ask for its completion, and do what a server would do behind."""
        request = CompletionRequest(count, checksum)
        complete_direct_snapshot(self.region, snapshot_id, request)
        assert settle_direct_snapshots(self.region).failures == []
        return self.show(snapshot_id)

    def show(self, snapshot_id: SnapshotId) -> Snapshot:
        found = self.region.metadata.read(lambda reader: find_snapshot(reader, snapshot_id))
        assert found is not None
        return found

    def make(self, seeds: Mapping[int, int], parent: str | None = None) -> SnapshotId:
        """A completed snapshot of those blocks over its parent's."""
        snapshot_id = self.start(parent)
        self.put(snapshot_id, seeds)
        assert self.complete(snapshot_id, len(seeds)).root is not None
        return snapshot_id

    def read(self, snapshot_id: str, *, page_size: int = 10_000) -> dict[int, int]:
        """All blocks of a snapshot, listed page by page and then got."""
        found, token = {}, None
        this = SnapshotId(snapshot_id)
        while True:
            request = PageRequest(token=token, max_results=page_size)
            page = list_blocks(self.region, self.access, this, request)
            assert len(page.blocks) <= page_size
            for index, block_token in page.blocks:
                assert index not in found
                data = get_block(self.region, self.access, this, index, block_token)
                found[index] = seed_of(data)
            token = page.next_token
            if token is None:
                assert list(found) == sorted(found)
                return found

    def changes(
        self, first: str, second: str, *, page_size: int = 10_000
    ) -> Iterator[list[ListedChange]]:
        """The pages of what was written between two snapshots."""
        token = None
        pair = SnapshotId(first), SnapshotId(second)
        while True:
            request = PageRequest(token=token, max_results=page_size)
            page = list_changed_blocks(self.region, self.access, pair, request)
            yield list(page.changes)
            token = page.next_token
            if token is None:
                return
