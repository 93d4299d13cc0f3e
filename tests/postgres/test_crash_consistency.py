"""A database on two volumes, snapshotted while it works, recovers from every set.

PostgreSQL answers a commit when its log is durable on one volume, and later writes the
pages that it changed to the other.  A set has to hold a moment of both: then it is what a
power cut would have left, and nothing that was acknowledged is missing.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.postgres.database import Acknowledger, Database, require_postgres
from tests.postgres.live_disks import LiveDisks, make_folder, mount_image
from tests.tools import run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("loop_devices")]

SETS = 3
DATA, LOG = "data", "log"


class Working(NamedTuple):
    """A database at work on live volumes."""

    folder: Path
    disks: LiveDisks
    database: Database
    client: Acknowledger


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def working(stack: ExitStack) -> Working:
    require_postgres()
    folder = make_folder(stack)
    disks = LiveDisks(stack, folder, [DATA, LOG])
    database = Database(folder / DATA, folder / LOG, folder / "sockets")
    database.make()
    database.start(stack)
    database.fill()
    database.load(stack)
    return Working(folder, disks, database, database.acknowledger(stack))


def restored(stack: ExitStack, folder: Path, data: Path, log: Path) -> Database:
    """A database on copies of the two disks, not started yet."""
    folder.mkdir()
    disks = [mount_image(stack, data, folder / DATA), mount_image(stack, log, folder / LOG)]
    database = Database(*disks, folder / "sockets")
    database.adopt()
    return database


def test_every_set_recovers_and_misses_nothing_acknowledged(working: Working) -> None:
    sets = []
    for _ in range(SETS):
        working.client.wait_for_more(200)
        acknowledged_before = working.client.acknowledged
        working.disks.begin_snapshots([DATA, LOG])
        begun_after = working.client.begun
        images = working.disks.end_snapshots()
        sets.append((images, acknowledged_before, begun_after))
    for number, (images, acknowledged_before, begun_after) in enumerate(sets, 1):
        with ExitStack() as mounts:
            place = working.folder / f"restored{number}"
            database = restored(mounts, place, images[DATA], images[LOG])
            with ExitStack() as running:
                database.start(running)
                assert "automatic recovery in progress" in database.messages
                ids = database.query("SELECT count(*), min(id), max(id) FROM acknowledged")
                count, first, last = map(int, ids.split("|"))
                assert (first, count) == (1, last)
                assert acknowledged_before <= last <= begun_after
                database.check()
        for image in images.values():
            run("e2fsck", "-fn", image)


def test_snapshots_taken_one_after_the_other_do_not_recover(
    working: Working, stack: ExitStack
) -> None:
    """The log first, and the data after a checkpoint that the log's snapshot knows nothing of."""
    working.client.wait_for_more(50)
    working.disks.begin_snapshots([LOG])
    log = working.disks.end_snapshots()[LOG]
    working.client.wait_for_more(50)
    working.database.query("CHECKPOINT")
    working.disks.begin_snapshots([DATA])
    data = working.disks.end_snapshots()[DATA]
    database = restored(stack, working.folder / "restored", data, log)
    assert not database.starts()
    assert "could not locate a valid checkpoint record" in database.messages
