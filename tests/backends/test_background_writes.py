"""Buffers handed over are written in order, whole, by a thread behind."""

import errno
import gc
import threading
from pathlib import Path

import pytest

from ebsim.background_writes import BackgroundWrites
from ebsim.durable_files import Files
from ebsim.staged_file import STAGE_SIZE, StagedFile

SIZE = 4096


def test_what_is_handed_over_is_written_in_order_while_the_next_buffer_is_filled():
    written: list[tuple[bytes, int]] = []
    writes = BackgroundWrites(lambda piece, at: written.append((bytes(piece), at)), SIZE)
    for number in range(20):
        writes.buffer[:] = bytes([number]) * SIZE
        writes.hand_over(SIZE - number, number * SIZE)
    writes.finish()

    assert written == [(bytes([n]) * (SIZE - n), n * SIZE) for n in range(20)]


def test_a_buffer_is_not_filled_again_before_it_is_written():
    gate = threading.Event()
    seen: list[bytes] = []

    def write(piece: memoryview, _offset: int) -> None:
        gate.wait(10)
        seen.append(bytes(piece[:1]))

    writes = BackgroundWrites(write, SIZE)
    first = writes.buffer
    first[:1] = b"a"
    writes.hand_over(SIZE, 0)
    assert writes.buffer is not first
    writes.buffer[:1] = b"b"
    gate.set()
    writes.hand_over(SIZE, SIZE)
    writes.finish()

    assert seen == [b"a", b"b"]


def test_a_failure_is_told_by_a_later_call_which_ends_the_writing():
    written: list[int] = []

    def write(_piece: memoryview, offset: int) -> None:
        if offset == SIZE:
            raise OSError(errno.EIO, "broken")
        written.append(offset)

    def write_many() -> None:
        for number in range(10):
            writes.hand_over(SIZE, number * SIZE)

    writes = BackgroundWrites(write, SIZE)
    with pytest.raises(OSError, match="broken"):
        write_many()
    writes.cancel()

    assert set(written) <= {0, 2 * SIZE}


def test_cancelling_ends_the_thread_and_may_be_repeated():
    before = set(threading.enumerate())
    writes = BackgroundWrites(lambda _piece, _at: None, SIZE)
    writes.hand_over(SIZE, 0)
    writes.cancel()
    writes.cancel()

    assert set(threading.enumerate()) <= before


def shared_mappings() -> int:
    """How many anonymous mappings this process has that are made as buffers are."""
    return Path("/proc/self/maps").read_text("utf-8").count("/dev/zero")


@pytest.mark.parametrize("is_published", [True, False])
def test_a_staged_file_that_is_done_with_gives_its_buffers_back_at_once(
    tmp_path: Path, is_published: bool
) -> None:
    """Nobody looks for cycles meanwhile: a snapshot makes a pack a second, of megabytes."""
    gc.collect()
    gc.disable()
    try:
        before = shared_mappings()
        for number in range(5):
            file = StagedFile(Files(), tmp_path / f"file-{number}")
            file.append([b"x" * (STAGE_SIZE + 1)])
            assert shared_mappings() > before
            if is_published:
                file.publish(replace=False)
            else:
                file.discard()
            del file
        assert shared_mappings() <= before
    finally:
        gc.enable()
