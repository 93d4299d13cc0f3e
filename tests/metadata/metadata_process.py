"""A process of its own that uses the metadata in a directory, for tests to run and kill.

count PATH TIMES    adds one to a counter, TIMES times
hold PATH           writes in a transaction, says "holding" and stays inside it
fill PATH           stores rows under a limit on the file's size until it is refused
"""

import os
import resource
import signal
import sys
from pathlib import Path

from ebsim.errors import StorageFull
from ebsim.metadata.lmdb_metadata import LmdbMetadata
from ebsim.metadata.transactions import Table, Transaction

ROW_COUNT = 50


def count(metadata: LmdbMetadata, times: str) -> None:
    for _ in range(int(times)):
        metadata.run(lambda transaction: transaction.incr_many(Table.STORE, [(b"n", 1)]))


def hold(metadata: LmdbMetadata) -> None:
    def stay(transaction: Transaction) -> None:
        transaction.put_many(Table.STORE, [(b"n", bytes(8)), (b"lost", b"")])
        print("holding", flush=True)
        while True:
            signal.pause()

    metadata.run(stay)


def fill(metadata: LmdbMetadata) -> None:
    limit = (metadata.path / "data.mdb").stat().st_size + 400_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    stored = 0
    try:
        while True:
            rows = [(b"%d %d" % (stored, index), bytes(999)) for index in range(ROW_COUNT)]
            metadata.run(lambda transaction, rows=rows: transaction.put_many(Table.NODES, rows))
            stored += ROW_COUNT
    except StorageFull as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert len(metadata.read(lambda reader: reader.scan(Table.NODES, limit=10**6))) == stored
    metadata.run(lambda transaction: transaction.put_many(Table.STORE, [(b"after", b"")]))
    print(stored)


if __name__ == "__main__":
    opened = LmdbMetadata(Path(sys.argv[2]))
    {"count": count, "hold": hold, "fill": fill}[sys.argv[1]](opened, *sys.argv[3:])
    opened.close()
    os._exit(0)
