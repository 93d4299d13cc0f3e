"""A database on a mounted volume, and a workload that changes it.

PostgreSQL with pgbench's tables where it is installed, SQLite with the like otherwise.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

SEED = 2
_TRANSACTION_COUNT = 2000
_BANK_ROWS_PER_SCALE = 100_000

_SETTINGS = """
listen_addresses = ''
shared_buffers = 64MB
wal_level = minimal
max_wal_senders = 0
max_wal_size = 256MB
min_wal_size = 80MB
fsync = off
autovacuum = off
"""


def make_database(volume: Path, scale: int) -> None:
    """Fill *volume* with a database of about *scale* times 15 MB."""
    binaries = _postgres_binaries()
    if binaries is None:
        make_bank(volume / "bank.sqlite", scale * _BANK_ROWS_PER_SCALE)
        return
    data = volume / "pgdata"
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    data.chmod(0o700)
    _as_postgres(binaries / "initdb", "-D", data, "--no-sync", "--locale=C", "-E", "UTF8")
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(_SETTINGS)
    with _server(binaries, data):
        _as_postgres(binaries / "createdb", "-h", data, "bench")
        _as_postgres(binaries / "pgbench", "-h", data, "-i", "-q", "-s", str(scale), "bench")


def run_workload(volume: Path) -> None:
    """Run transactions against the database on *volume*, and shut it down cleanly."""
    binaries = _postgres_binaries()
    if binaries is None:
        change_bank(volume / "bank.sqlite", _TRANSACTION_COUNT)
        return
    data = volume / "pgdata"
    each = str(_TRANSACTION_COUNT // 2)
    with _server(binaries, data):
        _as_postgres(
            binaries / "pgbench", "-h", data, "-n", "-c", "2", "-j", "2", "-t", each,
            f"--random-seed={SEED}", "bench",
        )  # fmt: skip


def _postgres_binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    return found[-1].parent if found else None


def _as_postgres(*command: str | Path) -> None:
    """Run one of PostgreSQL's programs as its user: it refuses to run as root."""
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        user="postgres",
        group="postgres",
        cwd="/",
        env={**os.environ, "PGUSER": "postgres", "LC_ALL": "C"},
    )
    if done.returncode != 0:
        sys.exit(f"{command} failed:\n{done.stdout[-4000:]}")


@contextmanager
def _server(binaries: Path, data: Path) -> Iterator[None]:
    """Run the database's server meanwhile; its socket is in its own folder."""
    log = data / "server.log"
    options = f"-k {data}"
    _as_postgres(binaries / "pg_ctl", "-D", data, "-w", "-l", log, "-o", options, "start")
    try:
        yield
    finally:
        # Fast is a clean shutdown: it writes a checkpoint and waits for nobody.
        _as_postgres(binaries / "pg_ctl", "-D", data, "-w", "-m", "fast", "stop")


def make_bank(path: Path, row_count: int) -> None:
    """Make an SQLite database of *row_count* accounts at *path*."""
    random = Random(SEED)
    with closing(sqlite3.connect(path)) as bank:
        bank.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INT, filler TEXT)")
        bank.executemany(
            "INSERT INTO account VALUES (?, 0, ?)",
            ((number, random.randbytes(60).hex()) for number in range(row_count)),
        )
        bank.commit()


def change_bank(path: Path, transaction_count: int) -> None:
    """Change accounts here and there in the database at *path*."""
    random = Random(SEED)
    with closing(sqlite3.connect(path)) as bank:
        (count,) = bank.execute("SELECT count(*) FROM account").fetchone()
        for _ in range(transaction_count):
            change = (random.randint(1, 1000), random.randrange(count))
            bank.execute("UPDATE account SET balance = balance + ? WHERE id = ?", change)
        bank.commit()
