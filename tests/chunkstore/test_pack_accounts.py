"""What of each pack is alive."""

import pytest

from ebsim.chunkstore.pack_accounts import add_live, retire
from ebsim.chunkstore.rows import Location, PackRow
from ebsim.errors import MetadataCorrupt
from ebsim.metadata.transactions import Table

FIRST, SECOND = Location(1, 0, 36, 0, 0), Location(1, 100, 136, 0, 0)


def test_records_come_alive_and_are_retired(store):
    new = {1: PackRow(1000, 0, 0, "packs/a.pack")}
    store.metadata.run(lambda txn: add_live(txn, [FIRST, SECOND], new))
    assert store.packs() == {1: PackRow(1000, 300, 2, "packs/a.pack")}
    assert store.metadata.run(lambda txn: retire(txn, [FIRST])) == 100
    assert store.packs() == {1: PackRow(1000, 200, 1, "packs/a.pack")}
    assert len(store.rows(Table.DEAD)) == 1


def test_retiring_more_than_is_alive_is_damage_and_changes_nothing(store):
    new = {1: PackRow(1000, 0, 0, "packs/a.pack")}
    store.metadata.run(lambda txn: add_live(txn, [FIRST], new))
    with pytest.raises(MetadataCorrupt, match="1 live records of 100 bytes, 2 of 300 bytes"):
        store.metadata.run(lambda txn: retire(txn, [FIRST, SECOND]))
    assert store.packs() == {1: PackRow(1000, 100, 1, "packs/a.pack")}


def test_records_of_a_pack_that_is_lost_are_counted_out_of_nothing(store):
    assert store.metadata.run(lambda txn: retire(txn, [FIRST])) == 100
    assert store.packs() == {}
    assert store.rows(Table.DEAD) == {}
