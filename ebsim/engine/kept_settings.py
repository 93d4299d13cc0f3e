"""Settings and rules kept as files, for the day on which the metadata is lost.

    settings/TABLE/KEY.json     {"checksum": "...", "format": 1, "row": {...}}

Each is a row of one of :data:`KEPT_TABLES`, its key text and its value JSON.  The metadata is
what counts while it is there: a file is written, or unlinked, after the transaction that it
follows, and recovery does that for a process that died in between.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ebsim.chunkstore.ledger import scan_all
from ebsim.durable_files import Files, write_atomically
from ebsim.engine.kept_records import encode_record, read_kept
from ebsim.engine.region import Region
from ebsim.errors import MetadataCorrupt, UnsupportedFormat
from ebsim.metadata.transactions import Table, Transaction

SETTINGS = "settings"
KEPT_TABLES = (
    Table.RETENTION_RULES,
    Table.FAST_RESTORES,
    Table.ACCOUNT_SETTINGS,
    Table.KMS_KEYS,
)
_SUFFIX = ".json"
_KIND = "row"


def kept_path(region_path: Path, table: Table, key: bytes) -> Path:
    """The file of a row."""
    return region_path / SETTINGS / table / f"{key.decode()}{_SUFFIX}"


def write_current_row(region: Region, table: Table, key: bytes) -> None:
    """Make the file what the metadata says of a row, whoever changes that meanwhile."""
    path = kept_path(region.path, table, key)
    written: bytes | None = b"nothing yet"
    while True:
        (row,) = region.metadata.read(lambda reader: reader.get_many(table, [key]))
        if row == written:
            return
        if row is None:
            _forget(region.files, path)
        else:
            region.files.make_directories(path.parent)
            write_atomically(region.files, path, encode_record(_KIND, json.loads(row)))
        written = row


def _forget(files: Files, path: Path) -> None:
    if files.status(path.parent) is None:
        return
    with suppress(FileNotFoundError):
        files.unlink(path)
    files.sync_directory(path.parent)


def settle_kept_rows(region: Region) -> list[tuple[Table, bytes]]:
    """Write again the files that are not what the metadata says, and unlink those of nothing.

    Returns the rows of those files.
    """
    unsettled = unsettled_rows(region)
    for table, key in unsettled:
        write_current_row(region, table, key)
    return unsettled


def unsettled_rows(region: Region) -> list[tuple[Table, bytes]]:
    """The rows whose files are not what the metadata says, or that only files say are there."""
    found = []
    for table in KEPT_TABLES:
        rows = dict(region.metadata.read(lambda reader: list(scan_all(reader, table))))  # noqa: B023 (called at once)
        keys = rows.keys() | set(_kept_keys(region.files, region.path, table))
        for key in sorted(keys):
            try:
                kept = _kept_row(region.files, kept_path(region.path, table, key))
            except MetadataCorrupt:
                kept = None
                if key not in rows:
                    found.append((table, key))
            except UnsupportedFormat:
                continue
            if kept != rows.get(key):
                found.append((table, key))
    return found


def kept_rows(
    files: Files, region_path: Path
) -> tuple[list[tuple[Table, bytes, bytes]], list[str]]:
    """The rows that have a whole file, and what is wrong with the others."""
    found, complaints = [], []
    for table in KEPT_TABLES:
        for key in _kept_keys(files, region_path, table):
            path = kept_path(region_path, table, key)
            try:
                found.append((table, key, _kept_row(files, path)))
            except (MetadataCorrupt, UnsupportedFormat) as error:
                complaints.append(f"{path.relative_to(region_path)}: {error}")
    return found, complaints


def bring_back(txn: Transaction, rows: list[tuple[Table, bytes, bytes]]) -> None:
    """Put rows that came from their files."""
    for table, key, row in rows:
        txn.put_many(table, [(key, row)])


def _kept_keys(files: Files, region_path: Path, table: Table) -> Iterator[bytes]:
    for name in sorted(files.file_names(region_path / SETTINGS / table)):
        if name.endswith(_SUFFIX) and not name.startswith("."):
            yield name.removesuffix(_SUFFIX).encode()


def _kept_row(files: Files, path: Path) -> bytes:
    return json.dumps(read_kept(files, path, _KIND), separators=(",", ":")).encode()
