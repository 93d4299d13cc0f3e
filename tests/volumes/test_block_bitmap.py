"""A bitmap does what a set of block indexes does."""

from hypothesis import given
from hypothesis import strategies as st

from ebsim.volumes.block_bitmap import BlockBitmap, bitmap_bytes, runs_of_bits

# Bits, windows of 64 bytes and pieces of 4096 have borders here.
BORDERS = (0, 1, 7, 8, 9, 63, 64, 511, 512, 513, 1024, 32767, 32768, 32769, 65536, 98304)
BLOCK_COUNT_MAX = 98_400

block_counts = st.sampled_from([1, 7, 8, 9, 511, 512, 513, 32768, 32769, BLOCK_COUNT_MAX])
positions = st.one_of(
    st.sampled_from(BORDERS),
    st.integers(0, BLOCK_COUNT_MAX),
    st.builds(
        lambda border, by: max(0, border + by), st.sampled_from(BORDERS), st.integers(-9, 9)
    ),
)
changes = st.lists(st.tuples(st.booleans(), positions, positions), max_size=8)


def made_of(block_count: int, steps: list[tuple[bool, int, int]]) -> tuple[BlockBitmap, set[int]]:
    """A bitmap after *steps*, and the set that it has to equal."""
    bitmap, model = BlockBitmap(bytearray(bitmap_bytes(block_count)), block_count), set[int]()
    for is_set, *ends in steps:
        start, stop = (min(end, block_count) for end in sorted(ends))
        if is_set:
            bitmap.set_range(start, stop)
            model.update(range(start, stop))
        else:
            bitmap.clear_range(start, stop)
            model.difference_update(range(start, stop))
    return bitmap, model


def runs_of(model: set[int], start: int, stop: int) -> list[tuple[int, int]]:
    """The longest runs of members from *start* up to *stop*."""
    found: list[tuple[int, int]] = []
    for index in sorted(member for member in model if start <= member < stop):
        if found and found[-1][1] == index:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return found


@given(block_counts, changes, positions, positions)
def test_runs_count_and_tests_agree_with_a_set(
    block_count: int, steps: list[tuple[bool, int, int]], one: int, other: int
) -> None:
    bitmap, model = made_of(block_count, steps)
    start, stop = (min(end, block_count) for end in sorted((one, other)))
    clear = set(range(start, stop)) - model
    assert list(bitmap.runs(start, stop)) == runs_of(model, start, stop)
    assert list(bitmap.runs(start, stop, is_set=False)) == runs_of(clear, start, stop)
    assert bitmap.count() == len(model)
    assert bitmap.is_full(start, stop) == (not clear)
    assert bitmap.is_empty(start, stop) == model.isdisjoint(range(start, stop))
    for index in {start, stop - 1, *BORDERS} & set(range(block_count)):
        assert bitmap[index] == (index in model)


@given(block_counts, changes, changes)
def test_two_bitmaps_combine_as_sets_do(
    block_count: int, steps: list[tuple[bool, int, int]], others: list[tuple[bool, int, int]]
) -> None:
    other, other_model = made_of(block_count, others)
    added, model = made_of(block_count, steps)
    added.add(other)
    assert list(added.runs()) == runs_of(model | other_model, 0, block_count)
    kept, _ = made_of(block_count, steps)
    kept.keep(other)
    assert list(kept.runs()) == runs_of(model & other_model, 0, block_count)


@given(changes)
def test_memory_past_the_last_block_is_never_touched(steps: list[tuple[bool, int, int]]) -> None:
    block_count = 513
    memory = bytearray(b"\xa5" * 200)
    bitmap = BlockBitmap(memory, block_count)
    bitmap.clear_range(0, block_count)
    for is_set, *ends in steps:
        start, stop = (min(end, block_count) for end in sorted(ends))
        (bitmap.set_range if is_set else bitmap.clear_range)(start, stop)
    assert memory[64] & ~1 == 0xA5 & ~1
    assert memory[65:] == b"\xa5" * 135


@given(st.integers(0, 1 << 200), st.integers(0, 1 << 40))
def test_the_runs_of_a_number_are_its_bits(bits: int, first: int) -> None:
    members = [index for start, stop in runs_of_bits(bits, first) for index in range(start, stop)]
    assert members == [first + bit for bit in range(bits.bit_length()) if bits >> bit & 1]


def test_a_billion_bits_alike_are_looked_through_by_pieces() -> None:
    block_count = 1 << 30
    bitmap = BlockBitmap(bytearray(bitmap_bytes(block_count)), block_count)
    bitmap.set_range(3, block_count - 5)
    bitmap.clear_range(1 << 29, (1 << 29) + 1)
    assert list(bitmap.runs()) == [(3, 1 << 29), ((1 << 29) + 1, block_count - 5)]
