"""Reference counts are a Counter, in pages."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.chunkstore.reclaim_queue import change_references
from ebsim.chunkstore.reference_counts import ReferenceChanges, add_references, get_counts
from ebsim.chunkstore.rows import number_key
from ebsim.errors import Conflict, MetadataCorrupt
from ebsim.metadata.memory_metadata import MemoryMetadata
from ebsim.metadata.transactions import Table

# Near the borders of pages of 256, and few enough to meet.
numbers = st.sampled_from([1, 2, 254, 255, 256, 257, 511, 512, 100_000])
changes = st.dictionaries(numbers, st.integers(-3, 3))


@pytest.mark.slow
@given(st.lists(changes))
def test_counts_are_those_of_a_counter_and_turns_are_told(steps):
    metadata = MemoryMetadata()
    model: Counter[int] = Counter()
    for step in steps:
        after = model.copy()
        after.update(step)
        if any(count < 0 for count in after.values()):
            with pytest.raises(MetadataCorrupt, match="a count of -"):
                metadata.run(lambda txn: add_references(txn, ReferenceChanges(step)))  # noqa: B023 (called at once)
        else:
            turned = metadata.run(lambda txn: add_references(txn, ReferenceChanges(step)))  # noqa: B023 (called at once)
            changed = {number for number, change in step.items() if change}
            assert set(turned.emptied) == {n for n in changed if not after[n]}
            assert set(turned.revived) == {n for n in changed if not model[n]}
            model = after
        wanted = list(model | Counter(dict.fromkeys((1, 255, 999), 1)))
        counts = metadata.read(lambda reader: get_counts(reader, wanted))  # noqa: B023 (called at once)
        assert counts == {number: model[number] for number in wanted}


@pytest.mark.slow
@given(st.lists(changes))
def test_what_reaches_zero_is_in_the_queue(steps):
    metadata = MemoryMetadata()
    model: Counter[int] = Counter()
    reached: set[int] = set()
    for step in steps:
        positive = {n: c for n, c in step.items() if model[n] + c >= 0}
        metadata.run(lambda txn: change_references(txn, ReferenceChanges(positive)))  # noqa: B023 (called at once)
        model.update(positive)
        reached |= {number for number, change in positive.items() if change and not model[number]}
    queue = metadata.read(lambda reader: reader.scan(Table.RECLAIM, limit=99))
    assert [key for key, _ in queue] == [number_key(number) for number in sorted(reached)]


def test_a_count_that_would_pass_its_limit_changes_nothing():
    metadata = MemoryMetadata()
    most = (1 << 31) - 1
    metadata.run(lambda txn: add_references(txn, ReferenceChanges({5: most})))
    with pytest.raises(Conflict):
        metadata.run(lambda txn: add_references(txn, ReferenceChanges({5: 1})))
    assert metadata.read(lambda reader: get_counts(reader, [5])) == {5: most}


def test_neighbouring_numbers_share_a_row():
    metadata = MemoryMetadata()
    metadata.run(
        lambda txn: add_references(txn, ReferenceChanges(dict.fromkeys(range(256, 512), 1)))
    )
    assert len(metadata.read(lambda reader: reader.scan(Table.COUNTS, limit=9))) == 1


def test_a_run_that_would_pass_the_limit_or_fall_below_zero_changes_nothing():
    metadata = MemoryMetadata()
    numbers = list(range(250, 260))
    for count in (0, (1 << 31) - 1):
        metadata.run(lambda txn: add_references(txn, ReferenceChanges({255: count})))  # noqa: B023 (called at once)
        step = ReferenceChanges()
        (step.add_all if count else step.take_all)(numbers)
        with pytest.raises(Conflict if count else MetadataCorrupt):
            metadata.run(lambda txn: add_references(txn, step))  # noqa: B023 (called at once)
        assert metadata.read(lambda reader: get_counts(reader, numbers)) == {
            number: count if number == 255 else 0 for number in numbers
        }


# Runs with gaps, with numbers named twice, in any order, over the borders of pages.
leaves = st.builds(
    lambda start, length, gaps, twice: [
        number
        for number in range(start, start + length)
        if number not in gaps
        for _ in range(2 if number in twice else 1)
    ],
    st.sampled_from([1, 100, 200, 255, 256]),
    st.integers(0, 200),
    st.frozensets(st.integers(1, 460), max_size=3),
    st.frozensets(st.integers(1, 460), max_size=2),
).flatmap(st.permutations)


@pytest.mark.slow
@given(st.lists(st.tuples(leaves, st.booleans()), max_size=5))
def test_whole_leaves_added_and_taken_count_as_their_numbers_one_by_one(steps):
    metadata = MemoryMetadata()
    model: Counter[int] = Counter()
    held: list[list[int]] = []
    for leaf, also_take in steps:
        changes, before = ReferenceChanges(), model.copy()
        changes.add_all(leaf)
        model.update(leaf)
        held.append(leaf)
        if also_take:
            gone = held.pop(0)
            changes.take_all(gone)
            model.subtract(gone)
        turned = metadata.run(lambda txn: add_references(txn, changes))  # noqa: B023 (called at once)
        assert set(turned.emptied) == {n for n in before if before[n] and not model[n]}
        assert set(turned.revived) == {n for n in model if model[n] and not before[n]}
    counts = metadata.read(lambda reader: get_counts(reader, range(1, 470)))
    assert counts == {number: model[number] for number in range(1, 470)}
