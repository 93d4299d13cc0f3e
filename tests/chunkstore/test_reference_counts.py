"""Reference counts are a Counter, in pages."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.chunkstore.reclaim_queue import change_references
from ebsim.chunkstore.reference_counts import add_references, get_counts
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
                metadata.run(lambda txn: add_references(txn, step))  # noqa: B023 (called at once)
        else:
            turned = metadata.run(lambda txn: add_references(txn, step))  # noqa: B023 (called at once)
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
        metadata.run(lambda txn: change_references(txn, positive))  # noqa: B023 (called at once)
        model.update(positive)
        reached |= {number for number, change in positive.items() if change and not model[number]}
    queue = metadata.read(lambda reader: reader.scan(Table.RECLAIM, limit=99))
    assert [key for key, _ in queue] == [number_key(number) for number in sorted(reached)]


def test_a_count_that_would_pass_its_limit_changes_nothing():
    metadata = MemoryMetadata()
    most = (1 << 31) - 1
    metadata.run(lambda txn: add_references(txn, {5: most}))
    with pytest.raises(Conflict):
        metadata.run(lambda txn: add_references(txn, {5: 1}))
    assert metadata.read(lambda reader: get_counts(reader, [5])) == {5: most}


def test_neighbouring_numbers_share_a_row():
    metadata = MemoryMetadata()
    metadata.run(lambda txn: add_references(txn, dict.fromkeys(range(256, 512), 1)))
    assert len(metadata.read(lambda reader: reader.scan(Table.COUNTS, limit=9))) == 1
