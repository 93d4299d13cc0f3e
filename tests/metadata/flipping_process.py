"""A process that flips bits of a metadata file one after the other and judges each.

    flipping_process STORE SCRATCH     reads bit numbers, one a line, and answers each

The answer to a bit is one word and a line's end:

    found      the check complains
    same       the check is content, and every row reads as before
    chunks     the check is content, and only rows of ``Table.CHUNKS`` read differently
    silent     anything else: damage that nobody would notice

Damage may end this process; whoever reads the answers then starts another for the rest.
"""

import sys
from pathlib import Path

from ebsim.errors import EbsimError
from ebsim.metadata.lmdb_check import examine
from ebsim.metadata.lmdb_metadata import LmdbMetadata
from ebsim.metadata.transactions import Reader, Row, Table
from ebsim.units import MIB

Rows = dict[Table, list[Row]]


def all_rows(path: Path) -> Rows:
    """Every row of every table, each got by its key as well as by the scan."""

    def read(reader: Reader) -> Rows:
        rows = {table: reader.scan(table, limit=10**9) for table in Table}
        for table in Table:
            values = reader.get_many(table, [key for key, _ in rows[table]])
            rows[table] += [(b"", value or b"") for value in values]
        return rows

    metadata = LmdbMetadata(path, map_size_bytes=64 * MIB)
    try:
        return metadata.read(read)
    finally:
        metadata.close()


def judge(path: Path, expected: Rows) -> str:
    if examine(path, rows=True).complaints:
        return "found"
    try:
        rows = all_rows(path)
    except EbsimError:
        return "silent"
    different = {table for table in Table if rows[table] != expected[table]}
    if not different:
        return "same"
    return "chunks" if different == {Table.CHUNKS} else "silent"


def main() -> None:
    store, scratch = map(Path, sys.argv[1:])
    expected = all_rows(store)
    scratch.mkdir(exist_ok=True)
    sound = (store / "data.mdb").read_bytes()
    file = scratch / "data.mdb"
    file.write_bytes(sound)
    with file.open("r+b", buffering=0) as damaged:
        for line in sys.stdin:
            offset, bit = divmod(int(line), 8)
            damaged.seek(offset)
            damaged.write(bytes([sound[offset] ^ 1 << bit]))
            print(judge(scratch, expected), flush=True)
            damaged.seek(offset)
            damaged.write(sound[offset : offset + 1])


if __name__ == "__main__":
    main()
