"""A single flipped bit, wherever it falls, is found, named, and never returned as data."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebsim.engine.blast_radius import BlastRadius
from ebsim.engine.check_report import Finding, FindingKind
from ebsim.engine.check_store import check_store, findings_of
from ebsim.engine.region import Region
from ebsim.engine.survey import survey_region
from ebsim.errors import EbsimError, IntegrityError
from ebsim.progress import Unwatched
from tests.conftest import PROFILE
from tests.engine.damaged_stores import BLOCK_SIZE, Store, flip_bit, make_store, random_blocks


def short_blocks(count: int) -> bytes:
    """Blocks that compress to a few bytes, so that a pack has few bits."""
    return b"".join(bytes([65 + index]) * BLOCK_SIZE for index in range(count))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of two snapshots in two packs of some 700 bytes each."""
    store = make_store(tmp_path_factory.mktemp("rot"))
    store.take(short_blocks(3))
    store.take(short_blocks(4))
    return store


@pytest.fixture(scope="module")
def region(store: Store) -> Iterator[Region]:
    with store.open() as region:
        yield region


def findings(region: Region) -> list[Finding]:
    """What a check that reads everything finds, its look at the metadata file left out."""
    survey = survey_region(region, read_data=True, sample=1.0, progress=Unwatched())
    radius = BlastRadius(region.metadata, survey.bad_chunks)
    return list(findings_of(survey, radius.affects))


def expect_never_returned(store: Store, region: Region) -> None:
    """Each snapshot restores to what it was, or not at all."""
    for snapshot_id, data in store.taken.items():
        try:
            restored = store.restored(region, snapshot_id)
        except IntegrityError:
            continue
        assert restored == data


@pytest.mark.slow
def test_every_bit_of_a_pack_is_guarded(store: Store, region: Region) -> None:
    """One bit in 13 of every pack, all of them in the deep profile.

    What is hit is a chunk, a footer or both, and is so named.
    """
    assert not findings(region)
    stride = 1 if PROFILE == "deep" else 13  # 13 and 8 have no common factor.
    tried = 0
    for pack in store.packs():
        for bit_index in range(0, pack.stat().st_size * 8, stride):
            flip_bit(pack, bit_index)
            found = findings(region)
            flip_bit(pack, bit_index)
            assert found, f"bit {bit_index} of {pack.name}"
            assert {finding.kind for finding in found} <= {FindingKind.CHUNK, FindingKind.PACK}
            for finding in found:
                assert pack.name in finding.where
                assert finding.affects or finding.kind is FindingKind.PACK
            tried += 1
    assert not findings(region)
    assert tried > 5000 // stride


@pytest.mark.slow
@settings(max_examples=40)
@given(place=st.floats(0, 1, exclude_max=True))
def test_damaged_bytes_are_never_returned(store: Store, region: Region, place: float) -> None:
    for pack in store.packs():
        bit_index = int(place * pack.stat().st_size * 8)
        flip_bit(pack, bit_index)
        expect_never_returned(store, region)
        flip_bit(pack, bit_index)


@pytest.mark.slow
def test_every_bit_of_a_manifest_is_guarded(store: Store, region: Region) -> None:
    """All bits of a manifest, as its own reader sees them; a sample of them in a check."""
    manifest = store.manifests()[0]
    for bit_index in range(0, manifest.stat().st_size * 8, 37):
        flip_bit(manifest, bit_index)
        found = findings(region)
        flip_bit(manifest, bit_index)
        (finding,) = found
        assert finding.kind is FindingKind.MANIFEST
        assert finding.where == manifest.name.removesuffix(".json")


@pytest.mark.slow
@settings(max_examples=8)
@given(place=st.floats(0, 1, exclude_max=True))
def test_every_bit_of_the_metadata_that_matters_is_guarded(
    tmp_path_factory: pytest.TempPathFactory, place: float
) -> None:
    """Checked in a child process, since a damaged file may end it.

    A bit that no page in use holds changes nothing: then nothing may be found either.
    """
    folder = tmp_path_factory.mktemp("metadata")
    store = make_store(folder)
    store.take(short_blocks(3))
    data = store.path / "metadata" / "data.mdb"
    flip_bit(data, int(place * data.stat().st_size * 8))
    child = subprocess.run(
        [sys.executable, "-c", _CHECK, str(store.home), str(folder / "disk.img")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.strip() in {"found", "same"}


_CHECK = """
import sys
from pathlib import Path
from ebsim.engine.check_store import check_store
from ebsim.errors import EbsimError
from tests.conftest import PROFILE
from tests.engine.damaged_stores import Store

store = Store(Path(sys.argv[1]), Path(sys.argv[2]), {})
try:
    with store.open() as region:
        report = check_store(region, read_data=True)
        if report.findings:
            print("found")
        else:
            from ebsim.catalog.snapshot_index import of_owner, read_streams
            (found,) = region.metadata.read(
                lambda r: read_streams(r, [of_owner(region.account_id)], b"", 9)
            )
            same = store.restored(region, found[1].snapshot_id) == Path(sys.argv[2]).read_bytes()
            print("same" if same else "LIED")
except EbsimError:
    print("found")
"""


@pytest.mark.slow
@settings(max_examples=15)
@given(place=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 7))
def test_a_repair_after_any_flipped_bit_leaves_a_store_that_says_what_is_lost(
    tmp_path_factory: pytest.TempPathFactory, place: float, seed: int
) -> None:
    """The disk is gone, so some bits cost a block; every other block survives."""
    store = make_store(tmp_path_factory.mktemp("repair"))
    store.take(random_blocks(seed, 6))
    store.disk.unlink()
    pack = store.packs()[0]
    flip_bit(pack, int(place * pack.stat().st_size * 8))
    with store.open() as region:
        report = check_store(region, read_data=True, repair=True)
        assert report.findings
        if report.has_damage_left:
            assert report.lost
        else:
            assert not report.lost
            assert not check_store(region, read_data=True).findings
        expect_never_returned(store, region)
    (data,) = store.taken.values()
    store.take(data)
    with store.open() as region:
        for snapshot_id in store.taken:
            try:
                assert store.restored(region, snapshot_id) == data
            except EbsimError as error:
                pytest.fail(f"not healed by a later snapshot: {error}")
        assert not check_store(region, read_data=True, repair=True).has_damage_left
