"""What the fan-out of the block map costs, at 64, 128 and 256: the figures of decision 0004.

    python -m benchmarks.fan_out [--blocks 2097152] [--rounds 5]

Builds the block map of a full volume (2 097 152 blocks: 1 TiB of 512 KiB), every block
different, in memory; then changes one block, and one block in each of 2000 places, and
compares.  Times are the work of this floor alone: no disk, no metadata.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.changed_blocks import changed_blocks
from ebsim.blockmap.geometry import BLOCKS_MAX, Geometry
from ebsim.blockmap.map_update import MapUpdate, updated_map
from ebsim.blockmap.memory_nodes import MemoryNodes
from ebsim.blockmap.node_format import Leaf
from ebsim.blockmap.node_store import empty_root, store_node
from ebsim.ids import DIGEST_SIZE, Digest
from ebsim.units import KIB, MIB

FAN_OUTS = (64, 128, 256)
BLOCKS_FULL = 2**21
BLOCK_SIZE = 512 * KIB
SCATTERED_COUNT = 2000
SEED = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """One update of a full map, and the comparison of the two."""

    update_ms: float
    diff_ms: float
    node_count: int
    node_bytes: int
    diff_load_count: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What one fan-out costs."""

    fan_out: int
    root: Digest
    full_node_count: int
    full_bytes: int
    sparse_bytes: int
    one: Cost
    scattered: Cost


class MeasuredNodes(MemoryNodes):
    """Nodes in memory; counts the bytes stored."""

    def __init__(self) -> None:
        super().__init__()
        self.stored_bytes = 0

    def store(
        self, digest: Digest, data: bytes, *, level: int, index: int, children: Sequence[Digest]
    ) -> None:
        self.stored_bytes += len(data)
        super().store(digest, data, level=level, index=index, children=children)


def block_name(content: int) -> Digest:
    """A digest that stands for a block's; its bytes do not matter here, only that it is one."""
    return Digest(content.to_bytes(DIGEST_SIZE, "little"))


def full_map(block_count: int, geometry: Geometry) -> BlockMap:
    """A map of *block_count* blocks (whole leaves), all different."""
    store, fan_out = MeasuredNodes(), geometry.fan_out
    update = MapUpdate(BlockMap(empty_root(geometry), store, geometry))
    generations = (1).to_bytes(8, "little") * fan_out
    for index in range(block_count // fan_out):
        blocks = range(index * fan_out, (index + 1) * fan_out)
        leaf = Leaf((1 << fan_out) - 1, b"".join(map(block_name, blocks)), generations)
        digest = store_node(store, leaf, index=index, geometry=geometry)
        update.set_leaf(index, digest)
    return BlockMap(update.finish(), store, geometry)


def best_ms(work: Callable[[], object], rounds: int) -> float:
    """The least wall time of *rounds* runs: what the work takes when nothing disturbs it."""
    times_ns = []
    for _ in range(rounds):
        begun_ns = time.perf_counter_ns()
        work()
        times_ns.append(time.perf_counter_ns() - begun_ns)
    return min(times_ns) / 1e6


def cost_of(base: BlockMap, indexes: Sequence[int], rounds: int) -> Cost:
    """What it costs to change the blocks at *indexes*, and to compare."""
    store, geometry = base.store, base.geometry
    assert isinstance(store, MeasuredNodes), "a map made by full_map"
    changes = [(index, (block_name(BLOCKS_MAX + index), 2)) for index in sorted(indexes)]

    # A map of its own for each run, so that no run finds nodes decoded by the one before.
    def update() -> Digest:
        return updated_map(BlockMap(base.root, store, geometry), changes)

    stored_count, stored_bytes = store.store_count, store.stored_bytes
    new_root = update()
    stored_count, stored_bytes = (
        store.store_count - stored_count,
        store.stored_bytes - stored_bytes,
    )

    def compare() -> int:
        first = BlockMap(base.root, store, geometry)
        return sum(1 for _ in changed_blocks(first, BlockMap(new_root, store, geometry)))

    load_count = store.load_count
    assert compare() == len(indexes), "the comparison finds what was changed"
    load_count = store.load_count - load_count
    return Cost(
        best_ms(update, rounds), best_ms(compare, rounds), stored_count, stored_bytes, load_count
    )


def sparse_map_bytes(block_count: int, geometry: Geometry) -> int:
    """The node bytes of *block_count* blocks scattered over 16 times as many leaves of 128."""
    store = MeasuredNodes()
    indexes = Random(SEED).sample(range(block_count * 16 * 128), block_count)
    changes = [(index, (block_name(index + 1), 1)) for index in sorted(indexes)]
    updated_map(BlockMap(empty_root(geometry), store, geometry), changes)
    return store.stored_bytes


def measure(fan_out: int, block_count: int, scattered_count: int, rounds: int) -> Figures:
    """The figures of one fan-out."""
    geometry = Geometry(fan_out.bit_length() - 1)
    assert block_count % fan_out == 0, "whole leaves"
    full = full_map(block_count, geometry)
    assert isinstance(full.store, MeasuredNodes), "a map made by full_map"
    full_count, full_bytes = full.store.store_count, full.store.stored_bytes
    scattered = Random(SEED).sample(range(block_count), scattered_count)
    return Figures(
        fan_out=fan_out,
        root=full.root,
        full_node_count=full_count,
        full_bytes=full_bytes,
        sparse_bytes=sparse_map_bytes(scattered_count, geometry),
        one=cost_of(full, [block_count // 3], rounds),
        scattered=cost_of(full, scattered, rounds),
    )


def table(measured: Sequence[Figures], block_count: int, scattered_count: int) -> str:
    """The figures as a Markdown table, one column a fan-out."""
    volume_bytes = block_count * BLOCK_SIZE
    rows: list[tuple[str, Callable[[Figures], str]]] = [
        ("nodes of the full map", lambda f: f"{f.full_node_count:,}"),
        ("bytes of the full map", lambda f: f"{f.full_bytes / MIB:.1f} MiB"),
        ("... of the volume", lambda f: f"{f.full_bytes / volume_bytes:.5%}"),
        ("1 changed block: nodes stored", lambda f: f"{f.one.node_count}"),
        ("... bytes stored", lambda f: f"{f.one.node_bytes:,}"),
        ("... update", lambda f: f"{f.one.update_ms * 1000:.0f} µs"),
        ("... nodes loaded by a diff", lambda f: f"{f.one.diff_load_count}"),
        ("... diff", lambda f: f"{f.one.diff_ms * 1000:.0f} µs"),
        (f"{scattered_count} changed blocks: nodes", lambda f: f"{f.scattered.node_count:,}"),
        ("... bytes stored", lambda f: f"{f.scattered.node_bytes / MIB:.2f} MiB"),
        ("... update", lambda f: f"{f.scattered.update_ms:.1f} ms"),
        ("... diff", lambda f: f"{f.scattered.diff_ms:.1f} ms"),
        (f"{scattered_count} blocks, sparse: bytes", lambda f: f"{f.sparse_bytes / KIB:.0f} KiB"),
        ("root of the full map", lambda f: f.root.hex()[:12]),
    ]
    lines = [
        "| fan-out | " + " | ".join(str(figures.fan_out) for figures in measured) + " |",
        "|---|" + "---:|" * len(measured),
    ]
    lines += [
        f"| {title} | " + " | ".join(show(figures) for figures in measured) + " |"
        for title, show in rows
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Measure fan-outs of the block map.")
    parser.add_argument("--blocks", type=int, default=BLOCKS_FULL, help="blocks of the volume")
    parser.add_argument("--rounds", type=int, default=5, help="runs of which the best counts")
    options = parser.parse_args(arguments)
    scattered_count = min(SCATTERED_COUNT, options.blocks // 4)
    measured = [
        measure(fan_out, options.blocks, scattered_count, options.rounds) for fan_out in FAN_OUTS
    ]
    print(table(measured, options.blocks, scattered_count))
    print(f"\n{platform.machine()}, Python {platform.python_version()}, seed {SEED}, ", end="")
    print(f"best of {options.rounds}")


if __name__ == "__main__":
    main(sys.argv[1:])
