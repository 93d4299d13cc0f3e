import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.errors import SourceUnusable
from ebsim.sources.standard_input import StandardInput


class Dribble(io.RawIOBase):
    """A pipe that gives a few bytes at a time, as pipes do."""

    def __init__(self, data: bytes, steps: list[int]) -> None:
        self._data = memoryview(data)
        self._steps = steps

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed wants a wider buffer
        step = self._steps.pop(0) if self._steps else 7
        count = min(step, len(buffer), len(self._data))
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count


class Broken(io.RawIOBase):
    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # as above
        del buffer
        raise OSError(5, os.strerror(5))


@given(data=st.binary(min_size=1, max_size=200), steps=st.lists(st.integers(1, 50)))
def test_blocks_are_filled_whatever_the_pipe_gives_at_a_time(
    data: bytes, steps: list[int]
) -> None:
    source = StandardInput(Dribble(data, steps))
    buffer = bytearray(16)
    blocks = []
    while count := source.read_next(memoryview(buffer)):
        blocks.append(bytes(buffer[:count]))
    assert b"".join(blocks) == data
    assert all(len(block) == 16 for block in blocks[:-1])
    assert source.size_bytes == len(data)


def test_an_empty_stream_is_refused() -> None:
    with pytest.raises(SourceUnusable, match="is empty"):
        StandardInput(io.BytesIO()).read_next(memoryview(bytearray(16)))


def test_an_endless_stream_is_refused_at_the_largest_volume() -> None:
    with open("/dev/zero", "rb", buffering=0) as stream:  # noqa: PTH123 - unbuffered
        source = StandardInput(stream, size_bytes_max=1 << 20)
        buffer = memoryview(bytearray(1 << 20))
        assert source.read_next(buffer) == 1 << 20
        with pytest.raises(SourceUnusable, match=r"larger than a volume can be \(1.00 MiB\)"):
            source.read_next(buffer[:1])


def test_a_stream_of_exactly_the_largest_size_is_taken() -> None:
    source = StandardInput(io.BytesIO(bytes(64)), size_bytes_max=64)
    assert source.read_next(memoryview(bytearray(64))) == 64
    assert source.read_next(memoryview(bytearray(64))) == 0


def test_a_stream_that_breaks_says_where() -> None:
    with pytest.raises(SourceUnusable, match="broke at byte 0: Input/output error"):
        StandardInput(Broken()).read_next(memoryview(bytearray(16)))


def test_a_non_blocking_pipe_is_refused_rather_than_taken_as_its_end() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(reading, "rb", buffering=0) as stream:
        os.write(writing, b"abc")
        with pytest.raises(SourceUnusable, match="nothing at byte 3"):
            StandardInput(stream).read_next(memoryview(bytearray(16)))
    os.close(writing)
