"""A rebuild that is killed, or whose file calls fail, at every call that it makes.

Whatever it leaves, the region opens whole, or refuses to open and says to rebuild; a second
rebuild then brings every snapshot back, byte for byte, with its tags.
"""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from ebsim.catalog.snapshot import Snapshot
from ebsim.durable_files import Files
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.recovery import recover
from ebsim.errors import EbsimError, MetadataCorrupt
from ebsim.system_calls import SystemCalls
from tests.conftest import PROFILE
from tests.crash.faulty_calls import FaultyCalls
from tests.crash.recorded_store import catalog_of, open_small_store, quick_directory
from tests.crash.scenes import SCENES, prepare
from tests.engine.store_audit import complaints_about
from tests.engine.stores import restored


class Killed(BaseException):
    """Stands for the end of the process: no ``except`` of the program's own sees it."""


class DyingCalls(FaultyCalls):
    """From the N-th call on nothing happens any more."""

    def _error(self) -> OSError:
        raise Killed


@pytest.mark.slow
@pytest.mark.parametrize("is_killed", [True, False])
@pytest.mark.parametrize("is_lost", [True, False])
def test_a_rebuild_that_breaks_off_at_any_call_is_done_again(
    is_lost: bool, is_killed: bool, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    monkeypatch.setattr("ebsim.chunkstore.pack_writer.PACK_RECORDS_MAX", 12)
    kind = DyingCalls if is_killed else FaultyCalls
    with quick_directory() as folder:
        home, _, contents = prepare(SCENES["delete all"], folder)
        region = open_small_store(home, Random("look"))
        catalog = catalog_of(region.metadata)
        region.close()
        if is_lost:
            shutil.rmtree(home / "regions/test/metadata")
        opened_count = play_count = 0
        # Every fifth call by default: 0, 5, 10 ...; all of them in the deep profile.
        for fail_call in range(0, 10_000, 1 if PROFILE == "deep" else 5):
            played = folder / "played"
            shutil.copytree(home, played)
            calls = kind(SystemCalls(), fail_call, errno.EIO, persistent=is_killed)
            try:
                rebuild_store(played, "test", files=Files(calls), random=Random(1))
            except (EbsimError, Killed):
                assert calls.fault_count
            play_count += 1
            opened_count += examine(played, catalog, contents)
            shutil.rmtree(played)
            if not calls.fault_count:
                break
    figure(
        f"broken off at {play_count - 1} of {fail_call} calls; the region opened without more "
        f"ado {opened_count} times"
    )
    assert fail_call > 20


def examine(home: Path, catalog: dict[str, Snapshot], contents: dict[str, bytes]) -> bool:
    """Find every snapshot whole, after another rebuild if the region asks for one."""
    is_open = True
    try:
        region = open_small_store(home, Random("examine"))
    except MetadataCorrupt as error:
        asked = str(error)
        is_open = False
    if not is_open:
        assert "ebsim store rebuild" in asked
        rebuild_store(home, "test", random=Random(2))
        region = open_small_store(home, Random("examine"))
    try:
        recover(region)
        assert complaints_about(region) == []
        assert catalog_of(region.metadata) == catalog
        for snapshot_id, expected in contents.items():
            assert restored(region, snapshot_id, home.parent) == expected
    finally:
        region.close()
    return is_open
