"""A check beside processes that snapshot and delete: what it finds must not be a race."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ebsim.engine.check_store import check_store
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.errors import Conflict
from tests.engine.damaged_stores import make_store, random_blocks
from tests.engine.interruptions import Interference
from tests.engine.stores import BLOCK, block_bytes, open_store, take, write_disk

_WRITER = """
import sys
from pathlib import Path
from ebsim.engine.delete_snapshot import delete_snapshots
from tests.engine.damaged_stores import Store, random_blocks, with_block

store = Store(Path(sys.argv[1]), Path(sys.argv[2]), {})
seed = int(sys.argv[3])
data = random_blocks(seed, 300)
taken = []
for index in range(25):
    data = with_block(data, index * 11, seed * 1000 + index)
    taken.append(store.take(data, tags={"n": str(index)}).snapshot_id)
    if len(taken) > 3:
        with store.open() as region:
            delete_snapshots(region, [taken.pop(index % 3)])
"""


@pytest.mark.slow
def test_a_check_beside_two_writers_finds_nothing(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.take(random_blocks(1, 50))
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(store.home), str(tmp_path / f"{n}.img"), str(n)],
            cwd=Path(__file__).parents[2],
        )
        for n in (2, 3)
    ]
    checked = 0
    try:
        with store.open() as region:
            while any(writer.poll() is None for writer in writers):
                report = check_store(region, read_data=True)
                assert report.findings == []
                checked += 1
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert [writer.returncode for writer in writers] == [0, 0]
    assert checked > 1
    with store.open() as region:
        assert not check_store(region, read_data=True).findings


def test_a_check_of_metadata_that_was_rebuilt_meanwhile_finds_no_damage(tmp_path: Path) -> None:
    """What was taken since the rebuild is no stray manifest or pack."""
    region = open_store(tmp_path / "home")
    disk = write_disk(tmp_path / "disk", 4 * BLOCK, {0: block_bytes(1)})
    take(region, disk)

    def rebuild() -> None:
        rebuild_store(region.home, region.name)
        with closing(open_store(region.home)) as rebuilt:
            take(rebuilt, disk)

    with closing(region), pytest.raises(Conflict, match="rebuilt meanwhile"):
        check_store(region, progress=Interference(0, rebuild))
