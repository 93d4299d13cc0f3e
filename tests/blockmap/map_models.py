"""Block maps and the dictionaries that model them."""

from collections.abc import Iterable, Mapping

from hypothesis import strategies as st

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.geometry import BLOCKS_MAX, GEOMETRY, Geometry
from ebsim.blockmap.map_update import MapUpdate, updated_map
from ebsim.blockmap.memory_nodes import MemoryNodes
from ebsim.blockmap.node_store import empty_root
from ebsim.content.digest import block_digest
from ebsim.ids import Digest

Entry = tuple[Digest, int]
Update = Mapping[int, Entry | None]

SMALL = Geometry(3)
"""Fan-out 8: trees of all 12 heights from a few blocks."""


def entry(content: int, generation: int = 1) -> Entry:
    return block_digest(content.to_bytes(8, "little")), generation


geometries = st.sampled_from([SMALL, GEOMETRY])

# Near 0, near node borders and near the end are where index arithmetic goes wrong.
_BORDERS = [8**power for power in range(1, 12)] + [128**power for power in range(1, 5)]
block_indexes = st.one_of(
    st.integers(0, 3),
    st.sampled_from([border + step for border in _BORDERS for step in (-1, 0, 1)]),
    st.integers(0, 600),
    st.integers(BLOCKS_MAX - 3, BLOCKS_MAX - 1),
    st.integers(0, BLOCKS_MAX - 1),
)
# Few contents, so that equal blocks, leaves and subtrees are common.
entries = st.builds(entry, st.integers(0, 3), st.integers(1, 3))
changes = st.dictionaries(block_indexes, st.none() | entries, max_size=25)
histories = st.lists(changes, max_size=4)


def empty_map(geometry: Geometry = GEOMETRY, store: MemoryNodes | None = None) -> BlockMap:
    nodes = MemoryNodes() if store is None else store
    base = BlockMap(empty_root(geometry), nodes, geometry)
    return BlockMap(MapUpdate(base).finish(), nodes, geometry)


def changed_map(base: BlockMap, update: Update) -> BlockMap:
    return BlockMap(updated_map(base, sorted(update.items())), base.store, base.geometry)


def replay(base: BlockMap, history: Iterable[Update]) -> BlockMap:
    """*base* with each update of *history* applied after the other."""
    for update in history:
        base = changed_map(base, update)
    return base


def model_of(history: Iterable[Update]) -> dict[int, Entry]:
    """What a map with *history* must hold."""
    model: dict[int, Entry] = {}
    for update in history:
        for block_index, value in update.items():
            if value is None:
                model.pop(block_index, None)
            else:
                model[block_index] = value
    return model


def full_map(block_count: int, store: MemoryNodes) -> BlockMap:
    """A map with blocks 0 to *block_count*, all different."""
    blocks = ((index, entry(index)) for index in range(block_count))
    base = empty_map(store=store)
    return BlockMap(updated_map(base, blocks), store)
