"""A snapshot of a volume whose newest snapshot's block map is damaged."""

import io
from pathlib import Path

import pytest

from ebsim.chunkstore.pack_format import HEADER_SIZE, Kind
from ebsim.chunkstore.pack_scan import read_pack
from ebsim.engine.check_store import check_store
from ebsim.engine.create_snapshot import create_snapshot, create_snapshot_of_stream
from ebsim.engine.list_snapshots import show_snapshot
from ebsim.engine.region import Region
from ebsim.errors import SourceUnusable
from ebsim.sources.standard_input import StandardInput
from tests.engine.stores import (
    BLOCK,
    SMALL,
    block_bytes,
    change_disk,
    open_store,
    restored,
    take,
    write_disk,
)

BLOCKS = 300


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    blocks = {index: block_bytes(index) for index in range(BLOCKS)}
    return write_disk(tmp_path / "disk.img", BLOCKS * BLOCK, blocks)


def damage(region: Region, kind: Kind) -> None:
    """Flip a bit in the first node of *kind*, behind the store's back."""
    for name in region.backend.names("packs"):
        for record in read_pack(region.backend, name).records:
            if record.kind == kind:
                path = region.path / name
                data = bytearray(path.read_bytes())
                data[record.offset + HEADER_SIZE + 7] ^= 1
                path.write_bytes(data)
                return
    raise AssertionError(f"no node of kind {kind}")


@pytest.mark.parametrize("kind", [Kind.LEAF, Kind.INNER])
def test_it_is_taken_whole_and_says_that_it_was_not_built_on_its_parent(
    kind: Kind, disk: Path, tmp_path: Path
) -> None:
    region = open_store(tmp_path / "home")
    first = take(region, disk)
    damage(region, kind)
    change_disk(disk, {index: block_bytes(1000 + index) for index in (0, 130, 299)})

    done = show_snapshot(region, take(region, disk))

    assert done.parent_id == first
    assert "was not built on" in done.state_message
    assert done.block_count == BLOCKS
    assert restored(region, done.snapshot_id, tmp_path) == disk.read_bytes()
    report = check_store(region, read_data=True)
    assert {affected.snapshot_id for f in report.findings for affected in f.affects} == {first}
    region.close()


def test_a_stream_that_would_have_to_be_read_again_is_refused(disk: Path, tmp_path: Path) -> None:
    region = open_store(tmp_path / "home")
    first = create_snapshot(region, str(disk), SMALL)
    damage(region, Kind.LEAF)
    change_disk(disk, {0: block_bytes(1000)})
    stream = StandardInput(io.BytesIO(disk.read_bytes()))

    with pytest.raises(SourceUnusable, match="would have to be read again"):
        create_snapshot_of_stream(region, stream, first.volume_id, SMALL)
    region.close()
