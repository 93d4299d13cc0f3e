"""Dead extents are a set of bytes, kept as few rows as can be."""

from hypothesis import given
from hypothesis import strategies as st

from ebsim.chunkstore.dead_space import add_dead, dead_extents, forget_pack
from ebsim.chunkstore.reclaim import hole_size, worth_punching
from ebsim.chunkstore.rows import DeadExtent
from ebsim.metadata.memory_metadata import MemoryMetadata
from ebsim.metadata.transactions import Table
from ebsim.units import KIB

PACKS = (1, 2)

# Twenty records of five bytes in each of two packs die in any order, some at once.
deaths = st.permutations([(pack, index) for pack in PACKS for index in range(20)]).flatmap(
    lambda order: st.lists(st.integers(1, 6), min_size=1, max_size=12).map(
        lambda sizes: [order[sum(sizes[:n]) : sum(sizes[: n + 1])] for n in range(len(sizes))]
    )
)


def extent_of(pack: int, index: int) -> DeadExtent:
    return DeadExtent(pack, 5 * index, 5 * index + 5, punched=False)


@given(deaths)
def test_dead_extents_are_a_set_of_bytes_in_as_few_rows_as_can_be(deaths):
    metadata = MemoryMetadata()
    model: set[tuple[int, int]] = set()
    for batch in deaths:
        extents = [extent_of(*record) for record in batch]
        metadata.run(lambda txn: add_dead(txn, extents))  # noqa: B023 (called at once)
        model.update((pack, 5 * index + n) for pack, index in batch for n in range(5))
        for pack in PACKS:
            found = metadata.read(lambda reader: dead_extents(reader, pack))  # noqa: B023 (called at once)
            held = [(pack, at) for extent in found for at in range(extent.start, extent.stop)]
            assert held == sorted(byte for byte in model if byte[0] == pack)
            starts = {byte for byte in model if (byte[0], byte[1] - 1) not in model}
            assert len(found) == len([byte for byte in starts if byte[0] == pack])


def test_an_extent_merged_with_a_punched_one_is_to_be_punched():
    metadata = MemoryMetadata()
    punched = DeadExtent(1, 0, 100, punched=True)
    metadata.run(lambda txn: add_dead(txn, [DeadExtent(1, 0, 100, punched=False)]))
    metadata.run(lambda txn: add_dead(txn, [DeadExtent(1, 200, 300, punched=False)]))
    assert punched not in metadata.read(lambda reader: dead_extents(reader, 1))
    metadata.run(lambda txn: add_dead(txn, [DeadExtent(1, 100, 200, punched=False)]))
    found = metadata.read(lambda reader: dead_extents(reader, 1))
    assert found == [DeadExtent(1, 0, 300, punched=False)]


def test_forgetting_a_pack_leaves_the_others():
    metadata = MemoryMetadata()
    extents = [extent_of(pack, index) for pack in (1, 2, 3) for index in (0, 2, 4)]
    metadata.run(lambda txn: add_dead(txn, extents))
    metadata.run(lambda txn: forget_pack(txn, 2))
    left = {
        pack: len(metadata.read(lambda reader: dead_extents(reader, pack)))  # noqa: B023 (called at once)
        for pack in (1, 2, 3)
    }
    assert left == {1: 3, 2: 0, 3: 3}
    assert len(metadata.read(lambda reader: reader.scan(Table.DEAD, limit=99))) == 6


@given(st.integers(0, 1 << 20), st.integers(0, 1 << 20))
def test_a_hole_is_the_whole_pages_inside_an_extent(start, size):
    extent = DeadExtent(1, start, start + size, punched=False)
    pages = [p for p in range(start // 4096, (start + size) // 4096 + 1) if p * 4096 >= start]
    whole = [page for page in pages if (page + 1) * 4096 <= start + size]
    assert max(0, hole_size(extent)) == 4096 * len(whole)


def test_what_was_punched_or_is_too_small_is_not_worth_a_punch():
    large = DeadExtent(1, 0, 64 * KIB, punched=False)
    done = DeadExtent(1, 1 << 20, 2 << 20, punched=True)
    small = DeadExtent(1, 1, 64 * KIB + 4095, punched=False)
    assert worth_punching([large, done, small]) == [large]
