"""Both stores, driven by Hypothesis, agree with a dictionary of dictionaries."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ebsim.metadata.lmdb_metadata import LmdbMetadata
from ebsim.metadata.memory_metadata import MemoryMetadata
from ebsim.metadata.transactions import Metadata, Table, Transaction
from ebsim.units import MIB

TABLES = [Table.CHUNKS, Table.NODES]

# Few letters make keys meet; long values make overflow pages, short ones full leaves.
keys = st.binary(min_size=1, max_size=3).map(lambda key: bytes(byte % 4 for byte in key))
values = st.one_of(st.binary(max_size=9), st.integers(0, 9000).map(lambda size: b"v" * size))
ends = st.just(b"") | keys
operations = st.lists(
    st.tuples(st.just("put"), st.sampled_from(TABLES), st.lists(st.tuples(keys, values)))
    | st.tuples(st.just("delete"), st.sampled_from(TABLES), st.lists(keys)),
    max_size=4,
)


class Abandon(Exception):
    """Raised on purpose, to undo a transaction."""


class MetadataMachine(RuleBasedStateMachine):
    """Rules for a store that a subclass opens."""

    def __init__(self) -> None:
        super().__init__()
        self.metadata = self.open()
        self.model: dict[Table, dict[bytes, bytes]] = {table: {} for table in TABLES}

    def open(self) -> Metadata:
        raise NotImplementedError

    @rule(operations=operations, is_abandoned=st.booleans())
    def transact(self, operations, is_abandoned):
        after = {table: dict(rows) for table, rows in self.model.items()}
        for kind, table, arguments in operations:
            if kind == "put":
                after[table].update(arguments)
            else:
                for key in arguments:
                    after[table].pop(key, None)

        def apply(transaction: Transaction) -> None:
            for kind, table, arguments in operations:
                if kind == "put":
                    transaction.put_many(table, arguments)
                else:
                    transaction.delete_many(table, arguments)
            for table in TABLES:
                rows = transaction.scan(table, limit=10**6)
                assert rows == sorted(after[table].items())
            if is_abandoned:
                raise Abandon

        if is_abandoned:
            with pytest.raises(Abandon):
                self.metadata.run(apply)
        else:
            self.metadata.run(apply)
            self.model = after

    @rule(table=st.sampled_from(TABLES), asked=st.lists(keys))
    def look_up(self, table, asked):
        found = self.metadata.read(lambda reader: reader.get_many(table, asked))
        assert found == [self.model[table].get(key) for key in asked]

    @rule(
        table=st.sampled_from(TABLES),
        start=ends,
        stop=st.none() | ends,
        limit=st.integers(0, 5),
        reverse=st.booleans(),
    )
    def scan(self, table, start, stop, limit, reverse):
        found = self.metadata.read(
            lambda reader: reader.scan(table, start, stop, limit=limit, reverse=reverse)
        )
        expected = sorted(
            (row for row in self.model[table].items() if start <= row[0]),
            reverse=reverse,
        )
        expected = [row for row in expected if stop is None or row[0] < stop]
        assert found == expected[:limit]

    @invariant()
    def holds_what_the_model_holds(self):
        for table in TABLES:
            rows = self.metadata.read(lambda reader, table=table: reader.scan(table, limit=10**6))
            assert rows == sorted(self.model[table].items())

    def teardown(self):
        self.metadata.close()


class MemoryMachine(MetadataMachine):
    def open(self):
        return MemoryMetadata()


class LmdbMachine(MetadataMachine):
    def open(self):
        self.path = Path(tempfile.mkdtemp(prefix="ebsim-metadata-"))
        return LmdbMetadata(self.path, map_size_bytes=64 * MIB)

    @rule()
    def reopen(self):
        self.metadata.close()
        self.metadata = LmdbMetadata(self.path, map_size_bytes=64 * MIB)

    def teardown(self):
        super().teardown()
        shutil.rmtree(self.path)


small = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = small
TestLmdbMachine = pytest.mark.slow(LmdbMachine.TestCase)
TestLmdbMachine.settings = small
