"""Small stores on a real disk, and ways to damage them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ebsim.catalog.snapshot import Snapshot
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.region import Region, open_region
from ebsim.engine.restore_snapshot import restore_snapshot
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.ids import AccountId
from ebsim.metadata.transactions import Table, Transaction

ACCOUNT = AccountId("123456789012")
REGION_NAME = "us-east-1"
BLOCK_SIZE = 4096


@dataclass
class Store:
    """A home with one region, and the disk that its snapshots are of."""

    home: Path
    disk: Path
    taken: dict[str, bytes]

    @contextmanager
    def open(self, name: str = REGION_NAME) -> Iterator[Region]:
        region = open_region(self.home, name, ACCOUNT)
        try:
            yield region
        finally:
            region.close()

    @property
    def path(self) -> Path:
        return self.home / "regions" / REGION_NAME

    def packs(self) -> list[Path]:
        return sorted((self.path / "packs").glob("*.pack"))

    def manifests(self) -> list[Path]:
        return sorted((self.path / "snapshots").glob("*.json"))

    def take(self, data: bytes, name: str = REGION_NAME, **options: object) -> Snapshot:
        """Make *data* the disk's content and snapshot it."""
        self.disk.write_bytes(data)
        settings = {"block_size": BLOCK_SIZE, "thread_count": 1, **options}
        with self.open(name) as region:
            snapshot = create_snapshot(
                region,
                str(self.disk),
                SnapshotOptions(**settings),  # type: ignore[arg-type]  # values of any option
            )
        if name == REGION_NAME:
            self.taken[snapshot.snapshot_id] = data
        return snapshot

    def restored(self, region: Region, snapshot_id: str) -> bytes:
        target = self.disk.with_name("restored.img")
        restore_snapshot(region, snapshot_id, str(target), force=True)
        return target.read_bytes()

    def change(self, fn: Callable[[Transaction], object]) -> None:
        """Change rows behind the engine's back."""
        with self.open() as region:
            region.metadata.run(fn)

    def drop_rows(self, table: Table) -> None:
        """Remove every row of *table*."""

        def drop(txn: Transaction) -> None:
            rows = txn.scan(table, limit=1 << 20)
            assert rows, "there must be something to lose"
            txn.delete_many(table, [key for key, _ in rows])

        self.change(drop)


def make_store(folder: Path) -> Store:
    return Store(folder / "home", folder / "disk.img", {})


def random_blocks(seed: int, count: int) -> bytes:
    """Blocks that compress a little, each unlike the others."""
    random = Random(seed)
    return b"".join(
        random.randbytes(BLOCK_SIZE // 2) + bytes([seed % 256]) * (BLOCK_SIZE // 2)
        for _ in range(count)
    )


def with_block(data: bytes, block_index: int, seed: int) -> bytes:
    """*data* with one block changed."""
    start = block_index * BLOCK_SIZE
    return data[:start] + random_blocks(seed, 1) + data[start + BLOCK_SIZE :]


def three_snapshots(store: Store) -> list[Snapshot]:
    """Take three snapshots of one disk of 300 blocks: three leaves and an inner node."""
    first = random_blocks(1, 300)
    second = with_block(first, 5, 2)
    third = with_block(second, 290, 3)
    return [
        store.take(first, tags={"name": "first"}, description="the first"),
        store.take(second),
        store.take(third, tags={"name": "third", "kept": ""}),
    ]


def flip_bit(path: Path, bit_index: int) -> None:
    """Flip one bit of a file, in place."""
    data = bytearray(path.read_bytes())
    data[bit_index // 8] ^= 1 << (bit_index % 8)
    mode = path.stat().st_mode
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(mode)
