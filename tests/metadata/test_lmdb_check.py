"""The check of the LMDB file: what it finds, beside whom it runs, what it survives."""

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from ebsim.errors import MetadataCorrupt
from ebsim.metadata.lmdb_check import verify_rows, verify_structure
from ebsim.metadata.lmdb_metadata import LmdbMetadata
from ebsim.metadata.transactions import Table, Transaction
from ebsim.units import MIB
from tests.metadata.metadata_contract import put

REPOSITORY = Path(__file__).resolve().parents[2]
META_BITS = [page * 4096 * 8 + bit for page in (0, 1) for bit in range(152 * 8)]


@pytest.fixture
def store(tmp_path):
    """A store with leaves, branches, overflow pages and free pages, after some history.

    Its newest transaction's number ends in binary 11: with one bit flipped it is less than
    the older one's, so the meta pages are told apart in the hardest case too.
    """
    path = tmp_path / "metadata"
    random = Random(7)
    metadata = LmdbMetadata(path, map_size_bytes=64 * MIB)
    for round_index in range(6):

        def change(transaction: Transaction, round_index: int = round_index) -> None:
            chunks = sorted((random.randbytes(32), random.randbytes(5)) for _ in range(60))
            transaction.put_many(Table.CHUNKS, chunks)
            nodes = [(b"%d" % random.randrange(40), random.randbytes(3000)) for _ in range(5)]
            transaction.put_many(Table.NODES, nodes)
            transaction.put_many(Table.SNAPSHOTS, [(b"snap-%d" % round_index, b"x" * 700)])
            transaction.put_many(Table.LOCATIONS, [(b"%d" % round_index, b"y" * 9000)])
            transaction.incr_many(Table.PACKS, [(b"%02d" % n, n) for n in range(round_index, 99)])
            transaction.delete_many(Table.PACKS, [b"%02d" % n for n in range(0, 99, 9)])

        metadata.run(change)
    metadata.close()
    assert newest_transaction(path) % 4 == 3
    return path


def newest_transaction(path: Path) -> int:
    content = (path / "data.mdb").read_bytes()
    return max(int.from_bytes(content[page * 4096 + 144 :][:8], "little") for page in (0, 1))


def judge_bits(store: Path, bits: list[int], scratch: Path) -> Counter[str]:
    """The answers of ``flipping_process`` to *bits*; its death is one more: ``died``."""
    answers: list[str] = []
    command = [sys.executable, "-m", "tests.metadata.flipping_process", store, scratch]
    while len(answers) < len(bits):
        judged = subprocess.run(
            command,
            cwd=REPOSITORY,
            input="".join(f"{bit}\n" for bit in bits[len(answers) :]),
            capture_output=True,
            text=True,
            check=False,
        )
        answers += judged.stdout.split()
        if judged.returncode < 0:
            answers.append("died")
        else:
            assert judged.returncode == 0, f"bit {bits[len(answers)]}: {judged.stderr}"
    for bit, answer in zip(bits, answers, strict=True):
        assert answer != "silent", f"bit {bit} flipped, and nobody noticed"
    return Counter(answers)


@pytest.mark.slow
def test_a_flipped_bit_is_found_or_changes_no_row(store, tmp_path, record_property):
    """Rows of chunks are left out: they carry no checksum, their records prove them."""
    random = Random(11)
    size_bits = (store / "data.mdb").stat().st_size * 8
    bits = random.sample(META_BITS, 150) + random.sample(range(size_bits), 450)
    counts = judge_bits(store, bits, tmp_path / "scratch")

    print(f"{len(bits)} of {size_bits} bits flipped: {dict(counts)}")
    record_property("flipped_bits", dict(counts))
    assert counts["found"] > 150
    assert counts["same"] > 50


@pytest.mark.slow
def test_each_bit_of_a_meta_page_s_transaction_number_is_found(store, tmp_path):
    """One bit can make the older page count: everything reads well, one transaction ago."""
    bits = [(page * 4096 + 144) * 8 + bit for page in (0, 1) for bit in range(64)]

    counts = judge_bits(store, bits, tmp_path / "scratch")
    assert counts["found"] + counts["died"] == 128


def test_a_sound_store_has_no_complaints_and_each_row_is_counted(store):
    metadata = LmdbMetadata(store, map_size_bytes=64 * MIB)
    report = verify_rows(store)

    assert report.complaints == []
    assert report.row_counts == metadata.entry_counts()
    assert report.row_counts[Table.CHUNKS] == 360
    metadata.close()


def test_a_new_store_has_no_complaints(tmp_path):
    LmdbMetadata(tmp_path / "new").close()
    assert verify_structure(tmp_path / "new") == []
    assert set(verify_rows(tmp_path / "new").row_counts.values()) == {0}


def test_a_directory_without_metadata_is_a_complaint(tmp_path):
    assert verify_structure(tmp_path) == [f"{tmp_path} holds no data.mdb"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept_bytes", [0, 10, 4096, 9000, 70000])
def test_a_truncated_file_is_a_complaint(store, kept_bytes):
    with (store / "data.mdb").open("r+b") as file:
        file.truncate(kept_bytes)
    assert verify_rows(store).complaints != []


def test_zeroed_pages_are_complaints(store):
    with (store / "data.mdb").open("r+b") as file:
        file.seek(2 * 4096)
        file.write(bytes((store / "data.mdb").stat().st_size - 2 * 4096))
    assert verify_structure(store) != []


@pytest.mark.slow
def test_a_store_being_written_has_no_complaints(store):
    """The check sees one moment, and the writers' pages go on being used again."""
    metadata = LmdbMetadata(store, map_size_bytes=64 * MIB)
    is_checked = False
    commits = 0

    def write() -> None:
        nonlocal commits
        random = Random(3)
        while not is_checked:
            rows = [(b"%d" % random.randrange(300), random.randbytes(2500)) for _ in range(30)]
            put(metadata, Table.NODES, *rows)
            commits += 1

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write)
        try:
            for _ in range(5):
                assert verify_rows(store).complaints == []
        finally:
            is_checked = True
        writing.result()
    assert commits > 5
    metadata.close()


def pages_with_flags(content: bytes, flags: int) -> list[int]:
    """The offsets of the pages whose header has exactly *flags*."""
    offsets = range(2 * 4096, len(content), 4096)
    return [at for at in offsets if int.from_bytes(content[at + 10 : at + 12], "little") == flags]


@pytest.mark.slow
def test_a_lookup_sent_astray_by_a_branch_page_is_found(store, tmp_path):
    """The keys in a branch page are out of sight of the walk, which meets every row."""
    content = (store / "data.mdb").read_bytes()
    bits = []
    for page in pages_with_flags(content, 0x01):
        node = int.from_bytes(content[page + 18 : page + 20], "little")
        bits += range((page + node + 8) * 8, (page + node + 9) * 8)
    assert bits != []

    counts = judge_bits(store, bits, tmp_path / "scratch")
    assert counts["found"] > 0
    assert counts["chunks"] == 0


@pytest.mark.slow
def test_a_damaged_list_of_free_pages_is_found(store, tmp_path):
    """No row reads differently yet: a later transaction would overwrite what is in use."""
    content = (store / "data.mdb").read_bytes()
    meta = newest_transaction(store) % 2 * 4096
    root = int.from_bytes(content[meta + 80 : meta + 88], "little") * 4096
    first_node = root + int.from_bytes(content[root + 16 : root + 18], "little")
    list_bytes = int.from_bytes(content[first_node : first_node + 2], "little")
    assert list_bytes >= 16
    start = first_node + 8 + 8
    bits = list(range(start * 8, (start + list_bytes) * 8))

    counts = judge_bits(store, bits, tmp_path / "scratch")
    assert counts["found"] == len(bits)


def test_a_meta_page_of_another_transaction_is_refused_when_opened(store):
    with (store / "data.mdb").open("r+b") as file:
        file.seek(newest_transaction(store) % 2 * 4096 + 145)
        file.write(b"\1")
    with pytest.raises(MetadataCorrupt, match="does not match the commit stamp"):
        LmdbMetadata(store)
