"""The contract of ``Metadata``, run on every store that implements it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ebsim.metadata.transactions import Metadata, Reader, Table, Transaction


def put(metadata: Metadata, table: Table, *rows: tuple[bytes, bytes]) -> None:
    metadata.run(lambda transaction: transaction.put_many(table, rows))


def get(metadata: Metadata, table: Table, *keys: bytes) -> list[bytes | None]:
    return metadata.read(lambda reader: reader.get_many(table, keys))


def rows_of(metadata: Metadata, table: Table) -> list[tuple[bytes, bytes]]:
    return metadata.read(lambda reader: reader.scan(table, limit=10**9))


class MetadataContract:
    """Tests to inherit; the fixture ``metadata`` gives an empty store."""

    def test_values_come_in_the_order_asked_with_none_for_absent_keys(self, metadata):
        put(metadata, Table.STORE, (b"a", b"1"), (b"c", b""))

        assert get(metadata, Table.STORE, b"c", b"b", b"a", b"c") == [b"", None, b"1", b""]
        assert get(metadata, Table.STORE) == []

    def test_tables_do_not_see_each_other_s_rows(self, metadata):
        for table in Table:
            put(metadata, table, (b"key", table.encode()))

        assert [get(metadata, table, b"key") for table in Table] == [[t.encode()] for t in Table]

    @pytest.mark.parametrize("table", [Table.CHUNKS, Table.NODES])
    def test_rows_put_in_any_order_and_twice_are_scanned_by_rising_key(self, metadata, table):
        put(metadata, table, (b"m", b"1"), (b"z", b"2"))
        put(metadata, table, (b"zz", b"3"), (b"a", b"4"), (b"zz", b"5"), (b"m", b"6"))
        put(metadata, table, (b"m", b"7"), (b"y", b"8"), (b"zzz", b"9"), (b"zzzz", b"10"))

        assert rows_of(metadata, table) == [
            (b"a", b"4"),
            (b"m", b"7"),
            (b"y", b"8"),
            (b"z", b"2"),
            (b"zz", b"5"),
            (b"zzz", b"9"),
            (b"zzzz", b"10"),
        ]

    def test_a_range_is_half_open_in_both_directions(self, metadata):
        put(metadata, Table.STORE, *((bytes([key]), b"") for key in b"bdfh"))

        def keys(start, stop, *, limit=9, reverse=False):
            rows = metadata.read(
                lambda reader: reader.scan(Table.STORE, start, stop, limit=limit, reverse=reverse)
            )
            return b"".join(key for key, _ in rows)

        assert keys(b"d", b"h") == b"df"
        assert keys(b"d", b"h", reverse=True) == b"fd"
        assert keys(b"c", b"g", limit=1) == b"d"
        assert keys(b"c", b"g", limit=1, reverse=True) == b"f"
        assert keys(b"", None) == b"bdfh"
        assert keys(b"", None, reverse=True, limit=3) == b"hfd"
        assert keys(b"e", b"e") == keys(b"g", b"c") == keys(b"x", None) == b""
        assert keys(b"", b"") == keys(b"", b"", reverse=True) == b""
        assert keys(b"g", b"c", reverse=True) == keys(b"", b"b", reverse=True) == b""
        assert keys(b"", None, limit=0) == b""

    def test_deleting_passes_over_absent_keys(self, metadata):
        put(metadata, Table.STORE, (b"a", b"1"), (b"b", b"2"))
        metadata.run(lambda t: t.delete_many(Table.STORE, [b"x", b"a", b"a"]))

        assert rows_of(metadata, Table.STORE) == [(b"b", b"2")]

    def test_counters_add_up_when_one_batch_names_a_key_twice(self, metadata):
        def count(transaction: Transaction) -> list[int]:
            return transaction.incr_many(Table.STORE, [(b"b", 5), (b"a", -1), (b"b", -7)])

        assert metadata.run(count) == [5, -1, -2]
        assert metadata.run(count) == [3, -2, -4]
        assert get(metadata, Table.STORE, b"b") == [(-4).to_bytes(8, "little", signed=True)]

    def test_a_transaction_sees_its_own_writes_and_nobody_else_does_before_its_end(self, metadata):
        put(metadata, Table.STORE, (b"a", b"old"), (b"gone", b""))

        def change(transaction: Transaction) -> list[tuple[bytes, bytes]]:
            transaction.put_many(Table.STORE, [(b"a", b"new"), (b"b", b"1")])
            transaction.delete_many(Table.STORE, [b"gone"])
            with ThreadPoolExecutor(1) as other:
                others = other.submit(rows_of, metadata, Table.STORE).result()
            assert others == [(b"a", b"old"), (b"gone", b"")]
            return transaction.scan(Table.STORE, limit=9)

        assert metadata.run(change) == [(b"a", b"new"), (b"b", b"1")]
        assert rows_of(metadata, Table.STORE) == [(b"a", b"new"), (b"b", b"1")]

    def test_a_reader_keeps_its_moment_while_others_commit(self, metadata):
        put(metadata, Table.STORE, (b"a", b"old"))

        def look_twice(reader: Reader) -> tuple[list[bytes | None], list[bytes | None]]:
            before = reader.get_many(Table.STORE, [b"a"])
            with ThreadPoolExecutor(1) as other:
                other.submit(put, metadata, Table.STORE, (b"a", b"new")).result()
            return before, reader.get_many(Table.STORE, [b"a"])

        assert metadata.read(look_twice) == ([b"old"], [b"old"])
        assert get(metadata, Table.STORE, b"a") == [b"new"]

    def test_an_exception_undoes_every_write_and_is_passed_on(self, metadata):
        put(metadata, Table.STORE, (b"a", b"old"))

        def fail(transaction: Transaction) -> None:
            transaction.put_many(Table.STORE, [(b"a", b"new"), (b"b", b"")])
            transaction.incr_many(Table.PACKS, [(b"n", 1)])
            transaction.delete_many(Table.STORE, [b"a"])
            raise LookupError("on purpose")

        with pytest.raises(LookupError, match="on purpose"):
            metadata.run(fail)
        assert rows_of(metadata, Table.STORE) == [(b"a", b"old")]
        assert rows_of(metadata, Table.PACKS) == []

    def test_increments_of_many_threads_are_all_kept(self, metadata):
        start = threading.Barrier(4)

        def work(_: int) -> None:
            start.wait()
            for _ in range(50):
                metadata.run(lambda t: t.incr_many(Table.STORE, [(b"n", 1)]))
                metadata.read(lambda r: r.get_many(Table.STORE, [b"n"]))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))
        assert get(metadata, Table.STORE, b"n") == [(200).to_bytes(8, "little")]

    def test_a_transaction_inside_a_transaction_is_refused(self, metadata):
        with pytest.raises(AssertionError, match="inside a transaction"):
            metadata.run(lambda _: get(metadata, Table.STORE, b"a"))
        with pytest.raises(AssertionError, match="inside a transaction"):
            metadata.read(lambda _: put(metadata, Table.STORE, (b"a", b"")))
        assert get(metadata, Table.STORE, b"a") == [None]

    def test_an_empty_key_is_refused(self, metadata):
        with pytest.raises(AssertionError):
            put(metadata, Table.STORE, (b"", b"value"))
        with pytest.raises(AssertionError):
            get(metadata, Table.STORE, b"")

    def test_a_key_of_512_bytes_is_refused_and_one_of_511_is_not(self, metadata):
        put(metadata, Table.STORE, (b"k" * 511, b"value"))
        with pytest.raises(AssertionError):
            put(metadata, Table.STORE, (b"k" * 512, b"value"))
        assert get(metadata, Table.STORE, b"k" * 511, b"k" * 512) == [b"value", None]

    def test_a_closed_store_is_refused_and_closing_twice_is_harmless(self, metadata):
        metadata.close()
        metadata.close()
        with pytest.raises(AssertionError, match="closed"):
            get(metadata, Table.STORE, b"a")
        with pytest.raises(AssertionError, match="closed"):
            put(metadata, Table.STORE, (b"a", b""))
