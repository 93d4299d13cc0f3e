"""Any history of a disk, copied step by step: equal, and nothing sent that was there."""

from contextlib import ExitStack, closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebsim.engine.copy_snapshot import CopyOptions, copy_snapshot
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.recovery import recover
from ebsim.engine.region import open_region
from tests.engine.store_audit import complaints_about
from tests.engine.stores import (
    ACCOUNT,
    BLOCK,
    block_bytes,
    change_disk,
    restored,
    take,
    write_disk,
)

ONE_THREAD = CopyOptions(thread_count=1)
changes = st.dictionaries(st.sampled_from((0, 1, 127, 128, 129, 255, 256)), st.integers(0, 5))


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(histories=st.lists(changes, min_size=1, max_size=4), drop=st.integers(0, 3))
def test_copies_of_any_history_are_equal_and_send_what_was_missing(
    histories: list[dict[int, int]], drop: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A model set of the block contents that the destination has says what must travel."""
    folder = tmp_path_factory.mktemp("copies")
    with ExitStack() as opened:
        source, target = (
            opened.enter_context(closing(open_region(folder / "home", name, ACCOUNT)))
            for name in ("from", "to")
        )
        disk = write_disk(folder / "disk.img", 257 * BLOCK, {})
        copies: list[tuple[str, bytes]] = []
        for number, blocks in enumerate(histories):
            change_disk(disk, {i: block_bytes(seed + 1) for i, seed in blocks.items()})
            taken = take(source, disk)
            there = {b for _, content in copies for b in split(content)}
            done = copy_snapshot(target, source, taken, ONE_THREAD)
            assert done.sent_count == len(set(split(disk.read_bytes())) - there)
            copies.append((done.snapshot.snapshot_id, disk.read_bytes()))
            if number == drop:
                delete_snapshots(target, [copies.pop(0)[0]])
        for snapshot_id, content in copies:
            assert restored(target, snapshot_id, folder) == content
        recover(target)
        assert complaints_about(target) == []


def split(content: bytes) -> list[bytes]:
    blocks = [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)]
    return [block for block in blocks if any(block)]
