"""Whether the LMDB file is sound, and whether every row in it can be read.

A damaged file can make liblmdb end the process: a page number out of range is a read
outside the map (SIGSEGV), a shortened file a SIGBUS, a broken page an assertion.  So the
suspect is opened only in a child process, this module run as a program, and a child
that dies has found something.

The child looks at one moment of the file while others go on writing.  It takes the
write lock just long enough to begin a read transaction and to copy the two meta pages;
LMDB then uses no page of that state again until the read transaction ends, so the rest
is read in place.  The other ways were worse: holding the write lock throughout would
stop every writer for seconds, and ``env.copy`` needs as much free space as the
metadata, which a full disk does not have when it most wants to be checked.

Three passes, the next only where the one before found nothing:

1. Pages, by the verifier that comes with the LMDB binding, which never hands them to
   liblmdb: each reachable once, in order, counted right, none both used and free.
2. What that verifier cannot know: both meta pages match their commit stamps, and the
   tables are those that ebsim makes, with its flags.
3. Rows: each passes its checksum, and is found again by its key.  A lookup that misses
   a row which the walk meets was sent astray by a damaged branch page.

What this cannot see: damage inside the rows of ``Table.CHUNKS``, which carry no checksum
(``row_checksum.py``); the check of the chunk store holds them against their records.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import lmdb
from lmdb import verify

from ebsim.errors import MetadataCorrupt
from ebsim.metadata.commit_stamp import STAMP_KEY, stamp_complaints
from ebsim.metadata.lmdb_environment import DATA_FILE, open_lmdb
from ebsim.metadata.mapped_pages import drop_mapped, find_mapping
from ebsim.metadata.row_checksum import open_rows
from ebsim.metadata.transactions import Table
from ebsim.units import MIB, TIB

_COMPLAINTS_MAX: Final = 200
_ROWS_AT_ONCE: Final = 1024
_PACKAGE_PARENT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class MetadataReport:
    """What a check found.  *row_counts* has only the tables read to their end."""

    complaints: list[str]
    row_counts: dict[Table, int]


def verify_structure(path: Path) -> list[str]:
    """What is wrong with the pages of the metadata in *path*; nothing means sound.

    Safe while other processes write.  Reads the whole file once, about 100 MB/s.
    """
    return _ask_child(path, rows=False).complaints


def verify_rows(path: Path) -> MetadataReport:
    """:func:`verify_structure`, and where that finds nothing each row of each table."""
    return _ask_child(path, rows=True)


def examine(path: Path, *, rows: bool) -> MetadataReport:
    """What the child does.  It may not return: see the module's text."""
    if not (path / DATA_FILE).is_file():
        return MetadataReport([f"{path} holds no {DATA_FILE}"], {})
    try:
        with open_lmdb(path, TIB) as environment, (path / DATA_FILE).open("rb") as file:
            return _examine_open(environment, file.fileno(), path, rows=rows)
    except (lmdb.Error, OSError, verify.VerifyError) as error:
        return MetadataReport([f"{path}: {error}"], {})


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    mode, path = sys.argv[1:]
    json.dump(asdict(examine(Path(path), rows=mode == "rows")), sys.stdout)


def _ask_child(path: Path, *, rows: bool) -> MetadataReport:
    child = subprocess.run(
        [sys.executable, "-m", __spec__.name, "rows" if rows else "pages", str(path.resolve())],
        cwd=_PACKAGE_PARENT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if child.returncode == 0:
        found = json.loads(child.stdout)
        counts = {Table(name): count for name, count in found["row_counts"].items()}
        return MetadataReport(found["complaints"], counts)
    last_words = (child.stderr.strip().splitlines() or ["no message"])[-1]
    end = f"status {child.returncode}"
    if child.returncode < 0:
        end = signal.Signals(-child.returncode).name
    return MetadataReport([f"{path}: reading it ended the reader ({end}): {last_words}"], {})


def _examine_open(
    environment: lmdb.Environment, file: int, path: Path, *, rows: bool
) -> MetadataReport:
    page_size_bytes = environment.stat()["psize"]
    with environment.begin(write=True) as writer:
        reader = environment.begin()
        metas = os.pread(file, 2 * page_size_bytes, 0)
        size_bytes = os.fstat(file).st_size

        def read_page(page: int) -> bytes:
            offset_bytes = page * page_size_bytes
            if offset_bytes >= size_bytes:
                return b""
            return os.pread(file, page_size_bytes, offset_bytes)

        complaints = stamp_complaints(metas, page_size_bytes, read_page)
        writer.abort()
    with reader:
        picture = _Picture(file, metas)
        # Private, since verify() takes a path and reads a moving file's meta pages live;
        # the binding has type stubs for its engine only.
        verifier = verify._Verifier(picture, size_bytes)  # type: ignore[no-untyped-call]  # noqa: SLF001
        complaints += verifier.verify()  # type: ignore[no-untyped-call]
        if complaints:
            return MetadataReport(complaints, {})
        complaints = _table_complaints(environment, reader)
        if complaints or not rows:
            return MetadataReport(complaints, {})
        return _examine_rows(environment, reader, find_mapping(path / DATA_FILE))


class _Picture:
    """The file as the verifier reads it: meta pages of one moment, the others in place."""

    def __init__(self, file: int, metas: bytes) -> None:
        self._file = file
        self._metas = metas
        self._position = 0

    def seek(self, offset_bytes: int) -> None:
        self._position = offset_bytes

    def read(self, size_bytes: int) -> bytes:
        start = self._position
        stop = self._position = start + size_bytes
        from_metas = self._metas[start:stop]
        start += len(from_metas)
        return from_metas + os.pread(self._file, stop - start, start)


def _table_complaints(
    environment: lmdb.Environment, reader: "lmdb.Transaction[bytes]"
) -> list[str]:
    expected = {STAMP_KEY, *(table.encode() for table in Table)}
    names = set(reader.cursor().iternext(values=False))
    complaints = [f"table {name!r} is unknown" for name in sorted(names - expected)]
    complaints += [f"table {name!r} is missing" for name in sorted(expected - names)]
    if complaints:
        return complaints
    for name in (None, *(table.encode() for table in Table)):
        flags = environment.open_db(name, txn=reader, create=False).flags()
        if any(flags.values()):
            complaints.append(f"table {name!r} has the flags {flags}")
    return complaints


def _examine_rows(
    environment: lmdb.Environment,
    reader: "lmdb.Transaction[bytes]",
    mapping: tuple[int, int],
) -> MetadataReport:
    complaints: list[str] = []
    counts: dict[Table, int] = {}
    for table in Table:
        database = environment.open_db(table.encode(), txn=reader, create=False)
        counts[table] = 0
        seen_bytes = 0
        walk = reader.cursor(database).iternext()
        lookup = reader.cursor(database)
        while rows := [row for _, row in zip(range(_ROWS_AT_ONCE), walk, strict=False)]:
            counts[table] += len(rows)
            if lookup.getmulti([key for key, _ in rows]) != rows:
                complaints.append(
                    f"table {table}: of the rows {rows[0][0].hex()} to {rows[-1][0].hex()} "
                    "not each is found by its key"
                )
            for row in rows:
                try:
                    open_rows(table, [row])
                except MetadataCorrupt as error:
                    complaints.append(f"{error.where}: {error.found}")
            if len(complaints) > _COMPLAINTS_MAX:
                return MetadataReport([*complaints, "... and more"], {})
            seen_bytes += sum(len(key) + len(value) for key, value in rows)
            if seen_bytes > 16 * MIB:
                drop_mapped(*mapping)
                seen_bytes = 0
    return MetadataReport(complaints, counts)


if __name__ == "__main__":
    main()
