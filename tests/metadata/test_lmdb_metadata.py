"""What only the LMDB store promises: many processes, durability, refusals, damage."""

import os
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from ebsim.errors import (
    Conflict,
    InvalidRequest,
    MetadataCorrupt,
    StorageFull,
    StorageUnavailable,
    UnsupportedFormat,
)
from ebsim.metadata import lmdb_environment
from ebsim.metadata.commit_stamp import STAMP_KEY, commit_stamp
from ebsim.metadata.lmdb_check import verify_rows
from ebsim.metadata.lmdb_environment import open_lmdb
from ebsim.metadata.lmdb_errors import translate
from ebsim.metadata.lmdb_metadata import LmdbMetadata
from ebsim.metadata.network_filesystems import network_filesystem_of
from ebsim.metadata.transactions import Table
from ebsim.units import MIB
from tests.metadata.metadata_contract import get, put, rows_of

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metadata"


@pytest.fixture
def metadata(path):
    opened = LmdbMetadata(path, map_size_bytes=64 * MIB)
    yield opened
    opened.close()


@pytest.fixture
def start_process(path):
    """Start ``metadata_process`` on the store; whatever still runs is ended after the test."""
    started = []

    def start(mode: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.metadata.metadata_process", mode, str(path)]
        process = subprocess.Popen(
            [*command, *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def write_raw(path: Path, name: str, rows: dict[bytes, bytes]) -> None:
    """Put *rows* into the table *name* as they are, with no checksums made for them."""
    with open_lmdb(path, 64 * MIB) as environment, environment.begin(write=True) as writer:
        database = environment.open_db(name.encode(), txn=writer)
        for key, stored in rows.items():
            writer.put(key, stored, db=database)
        writer.put(STAMP_KEY, commit_stamp(writer.id()))


def read_raw(path: Path, name: str, key: bytes) -> bytes | None:
    with open_lmdb(path, 64 * MIB) as environment, environment.begin() as reader:
        database = environment.open_db(name.encode(), txn=reader, create=False)
        return reader.get(key, db=database)


def test_committed_rows_are_there_after_reopening(path):
    first = LmdbMetadata(path)
    put(first, Table.SNAPSHOTS, (b"snap-1", b"x" * 5000), (b"snap-2", b""))
    put(first, Table.CHUNKS, (b"d" * 32, b"12345"))
    first.close()

    second = LmdbMetadata(path)
    assert rows_of(second, Table.SNAPSHOTS) == [(b"snap-1", b"x" * 5000), (b"snap-2", b"")]
    assert get(second, Table.CHUNKS, b"d" * 32) == [b"12345"]
    second.close()


def test_one_path_opened_twice_is_one_store_until_both_are_closed(path, tmp_path):
    (tmp_path / "link").symlink_to(path)
    first, second = LmdbMetadata(path), LmdbMetadata(tmp_path / "link")
    put(first, Table.STORE, (b"a", b"1"))
    first.close()

    assert get(second, Table.STORE, b"a") == [b"1"]
    with pytest.raises(AssertionError, match="closed"):
        get(first, Table.STORE, b"a")
    second.close()
    third = LmdbMetadata(path)
    assert get(third, Table.STORE, b"a") == [b"1"]
    third.close()


@pytest.mark.slow
def test_increments_of_many_processes_are_all_kept_though_one_is_killed_inside(
    metadata, start_process
):
    """The killed one holds the write lock while the others wait for it."""
    put(metadata, Table.STORE, (b"n", (1000).to_bytes(8, "little")))
    holder = start_process("hold")
    assert holder.stdout.readline() == "holding\n"
    counters = [start_process("count", "40") for _ in range(3)]

    holder.kill()
    assert [counter.wait(timeout=20) for counter in counters] == [0, 0, 0]
    assert rows_of(metadata, Table.STORE) == [(b"n", (1120).to_bytes(8, "little"))]


@pytest.mark.slow
def test_a_file_that_may_not_grow_refuses_the_transaction_and_keeps_the_others(
    metadata, start_process, path
):
    """After the refused commit the same process reads what it had, and writes on."""
    filler = start_process("fill")
    output, _ = filler.communicate(timeout=20)

    message, stored = output.splitlines()
    assert filler.returncode == 0
    assert "no room for the metadata" in message
    assert int(stored) == len(rows_of(metadata, Table.NODES)) > 0
    assert get(metadata, Table.STORE, b"after") == [b""]
    assert verify_rows(path).complaints == []


def test_a_full_map_refuses_the_transaction_and_changes_nothing(path):
    metadata = LmdbMetadata(path, map_size_bytes=MIB)
    put(metadata, Table.NODES, (b"kept", b"1"))
    rows = [(b"%04d" % index, bytes(3000)) for index in range(400)]

    with pytest.raises(StorageFull, match="Nothing was changed"):
        put(metadata, Table.NODES, *rows)
    assert rows_of(metadata, Table.NODES) == [(b"kept", b"1")]
    put(metadata, Table.NODES, (b"kept", b"2"), *rows[:50])
    assert len(rows_of(metadata, Table.NODES)) == 51
    metadata.close()


def test_use_after_a_fork_is_refused(metadata):
    put(metadata, Table.STORE, (b"a", b"1"))
    child = os.fork()
    if child == 0:
        outcome = 1
        try:
            get(metadata, Table.STORE, b"a")
        except AssertionError as error:
            outcome = 0 if "fork" in str(error) else 2
        finally:
            os._exit(outcome)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert get(metadata, Table.STORE, b"a") == [b"1"]


@pytest.mark.parametrize("flipped_byte", [0, 4, 5, 12])
def test_a_row_that_fails_its_checksum_is_refused_by_table_and_key(path, flipped_byte):
    metadata = LmdbMetadata(path)
    put(metadata, Table.VOLUMES, (b"vol-1", b"value"), (b"vol-2", b"value"))
    metadata.close()
    stored = bytearray(read_raw(path, "volumes", b"vol-1"))
    stored[flipped_byte] ^= 1
    write_raw(path, "volumes", {b"vol-1": bytes(stored)})
    metadata = LmdbMetadata(path)

    where = f"table volumes, row {b'vol-1'.hex()}"
    with pytest.raises(MetadataCorrupt, match=where):
        get(metadata, Table.VOLUMES, b"vol-1")
    with pytest.raises(MetadataCorrupt, match=where):
        rows_of(metadata, Table.VOLUMES)
    with pytest.raises(MetadataCorrupt, match=where):
        metadata.run(lambda transaction: transaction.incr_many(Table.VOLUMES, [(b"vol-1", 1)]))
    assert get(metadata, Table.VOLUMES, b"vol-2") == [b"value"]
    assert [where in one for one in verify_rows(path).complaints] == [True]
    metadata.close()


def test_a_row_moved_to_another_table_or_key_fails_its_checksum(path):
    metadata = LmdbMetadata(path)
    put(metadata, Table.VOLUMES, (b"ab", b"c"))
    metadata.close()
    stored = read_raw(path, "volumes", b"ab")
    write_raw(path, "volumes", {b"a": b"b" + stored, b"x": stored, b"y": b"short"})
    write_raw(path, "snapshots", {b"ab": stored})
    metadata = LmdbMetadata(path)

    for table, key in [
        (Table.SNAPSHOTS, b"ab"),
        (Table.VOLUMES, b"a"),
        (Table.VOLUMES, b"x"),
        (Table.VOLUMES, b"y"),
    ]:
        with pytest.raises(MetadataCorrupt):
            get(metadata, table, key)
    assert get(metadata, Table.VOLUMES, b"ab") == [b"c"]
    metadata.close()


def test_a_counter_of_another_size_is_refused(metadata):
    put(metadata, Table.PACKS, (b"n", b"1234567"))
    with pytest.raises(MetadataCorrupt, match="a counter of 7 bytes"):
        metadata.run(lambda transaction: transaction.incr_many(Table.PACKS, [(b"n", 1)]))


def test_a_transaction_that_writes_nothing_leaves_the_file_as_it_was(metadata, path):
    put(metadata, Table.STORE, (b"a", b"1"))
    before = (path / "data.mdb").read_bytes()
    metadata.run(lambda transaction: transaction.delete_many(Table.STORE, [b"absent"]))
    metadata.run(lambda transaction: transaction.put_many(Table.STORE, []))

    assert (path / "data.mdb").read_bytes() == before


def test_after_a_failed_commit_the_file_is_opened_anew(metadata):
    """The threads under way end first; what was committed is there."""
    put(metadata, Table.STORE, (b"a", b"1"))
    environment = lmdb_environment.open_environment(metadata.path, 64 * MIB)
    before, _ = environment.enter()
    environment.leave(doubtful=True)

    assert get(metadata, Table.STORE, b"a") == [b"1"]
    after, _ = environment.enter()
    environment.leave()
    assert after is not before
    put(metadata, Table.STORE, (b"a", b"2"))
    assert get(metadata, Table.STORE, b"a") == [b"2"]
    lmdb_environment.close_environment(environment)


def test_a_store_with_an_unknown_table_is_of_a_newer_ebsim(path):
    LmdbMetadata(path).close()
    with open_lmdb_with_room(path) as environment, environment.begin(write=True) as writer:
        environment.open_db(b"wormholes", txn=writer)
        writer.put(STAMP_KEY, commit_stamp(writer.id()))

    with pytest.raises(UnsupportedFormat, match="wormholes"):
        LmdbMetadata(path)


def test_a_store_that_lacks_a_table_gets_it(path):
    LmdbMetadata(path).close()
    with open_lmdb_with_room(path) as environment, environment.begin(write=True) as writer:
        writer.drop(environment.open_db(b"volumes", txn=writer))
        writer.put(STAMP_KEY, commit_stamp(writer.id()))

    metadata = LmdbMetadata(path)
    put(metadata, Table.VOLUMES, (b"a", b"1"))
    assert get(metadata, Table.VOLUMES, b"a") == [b"1"]
    metadata.close()
    assert verify_rows(path).complaints == []


def open_lmdb_with_room(path: Path) -> lmdb.Environment:
    return lmdb.open(str(path), max_dbs=len(Table) + 1, map_size=64 * MIB)


def test_a_file_that_is_not_lmdb_s_is_damaged_metadata(path):
    path.mkdir()
    (path / "data.mdb").write_bytes(b"not what LMDB writes" * 1000)
    with pytest.raises(MetadataCorrupt):
        LmdbMetadata(path)


def test_a_path_through_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailable, match="Not a directory"):
        LmdbMetadata(tmp_path / "file" / "metadata")


def test_a_compact_copy_holds_the_same_rows_and_is_sound(metadata, tmp_path):
    put(metadata, Table.CHUNKS, *((b"%032d" % n, b"12345") for n in range(2000)))
    put(metadata, Table.NODES, *((b"%d" % n, b"x" * 3000) for n in range(200)))
    metadata.run(lambda t: t.delete_many(Table.NODES, [b"%d" % n for n in range(0, 200, 2)]))
    metadata.compact_copy(tmp_path / "copy")

    copy = LmdbMetadata(tmp_path / "copy")
    assert verify_rows(tmp_path / "copy").complaints == []
    for table in Table:
        assert rows_of(copy, table) == rows_of(metadata, table)
    assert copy.live_bytes() <= copy.file_bytes() < metadata.file_bytes()
    assert copy.entry_counts() == metadata.entry_counts()
    assert copy.entry_counts()[Table.NODES] == 100
    copy.close()
    with pytest.raises(Conflict):
        metadata.compact_copy(tmp_path / "copy")


def test_rows_that_rise_past_the_end_fill_their_pages(metadata):
    """A claim about cost: plain inserts take half as much again for rows of this size."""
    for first in range(0, 2000, 100):
        rows = ((b"%08d" % n, b"x" * 1010) for n in range(first, first + 100))
        put(metadata, Table.CHUNKS, *rows)
        put(metadata, Table.CHUNKS, (b"%08d" % first, b"y" * 1010))

    assert metadata.live_bytes() < 1450 * 2000


def lmdb_error(kind: type[lmdb.Error], code: int) -> lmdb.Error:
    """An error as the binding's C code raises it: the facts are set there."""
    error = kind("mdb_txn_commit", code)
    error.code, error.reason = code, "the reason"
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (lmdb_error(lmdb.Error, 28), StorageFull),
        (lmdb_error(lmdb.Error, 122), StorageFull),
        (OSError(28, "No space left on device"), StorageFull),
        (lmdb_error(lmdb.Error, 5), StorageUnavailable),
        (lmdb_error(lmdb.CorruptedError, -30796), MetadataCorrupt),
        (lmdb_error(lmdb.PageNotFoundError, -30797), MetadataCorrupt),
        (lmdb_error(lmdb.PanicError, -30795), MetadataCorrupt),
        (lmdb_error(lmdb.VersionMismatchError, -30794), UnsupportedFormat),
        (lmdb_error(lmdb.ReadersFullError, -30790), StorageUnavailable),
        (lmdb_error(lmdb.MapResizedError, -30785), StorageUnavailable),
    ],
)
def test_lmdb_s_errors_become_ours_in_one_line_that_names_the_place(error, expected):
    translated = translate(error, Path("/home/metadata"), "committing")

    assert type(translated) is expected
    assert "/home/metadata" in str(translated)
    assert "\n" not in str(translated)


def test_calling_lmdb_wrongly_is_a_bug():
    with pytest.raises(AssertionError):
        translate(lmdb_error(lmdb.BadDbiError, -30780), Path("/home"), "reading")


MOUNT_TABLE = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:30 / /mnt/share rw shared:7 - nfs4 server:/share rw
31 30 254:1 / /mnt/share/local\\040disk rw - xfs /dev/vdb rw
32 22 0:33 / /mnt/remote rw - fuse.sshfs host:/ rw
33 22 0:34 / /mnt/images rw - fuse.archivemount x rw
34 22 0:35 / /mnt/covered rw - ext4 /dev/vdc rw
35 22 0:36 / /mnt/covered rw - cifs //server/x rw
garbage
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/user", None),
        ("/mnt/share", "nfs4"),
        ("/mnt/share/a/b", "nfs4"),
        ("/mnt/shared", None),
        ("/mnt/share/local disk/a", None),
        ("/mnt/remote/a", "fuse.sshfs"),
        ("/mnt/images/a", None),
        ("/mnt/covered/a", "cifs"),
    ],
)
def test_the_nearest_and_latest_mount_tells_whether_a_path_is_on_a_network(path, expected):
    assert network_filesystem_of(Path(path), MOUNT_TABLE) == expected


def test_a_home_on_a_network_file_system_is_refused_by_its_name(path, tmp_path, monkeypatch):
    """No network is at hand, so the kernel's table of mounts is stood in for by a file."""
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 0:30 / {tmp_path} rw - nfs4 server:/share rw\n")
    monkeypatch.setattr(lmdb_environment, "MOUNT_TABLE", table)
    with pytest.raises(InvalidRequest, match=r"network file system \(nfs4\)"):
        LmdbMetadata(path)
    assert not (path / "data.mdb").exists()
