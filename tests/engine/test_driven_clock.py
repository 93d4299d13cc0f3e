"""A clock that goes by what a file says."""

from pathlib import Path

import pytest

from ebsim.clock import ManualClock, from_iso8601
from ebsim.engine.driven_clock import DrivenClock

SECOND = 10**9


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "clock"


@pytest.fixture
def driven(file: Path, clock: ManualClock) -> DrivenClock:
    return DrivenClock(file, clock)


def test_without_a_file_it_is_the_machine_s(driven: DrivenClock, clock: ManualClock) -> None:
    clock.advance(5)
    assert driven.now_ns() == clock.now_ns()


def test_a_time_stands_still_until_the_file_says_another(
    file: Path, driven: DrivenClock, clock: ManualClock
) -> None:
    file.write_text("2027-01-31T04:00:00Z\n")
    assert driven.now_ns() == from_iso8601("2027-01-31T04:00:00Z")
    clock.advance(5)
    assert driven.now_ns() == from_iso8601("2027-01-31T04:00:00Z")
    file.write_text("2027-02-01T04:00:00Z")
    assert driven.now_ns() == from_iso8601("2027-02-01T04:00:00Z")


@pytest.mark.parametrize(
    ("text", "seconds"), [("+7s", 7), ("+2m", 120), ("+3h", 10_800), ("+30d", 2_592_000)]
)
def test_an_advance_goes_on_with_the_machine_s(
    file: Path, driven: DrivenClock, clock: ManualClock, text: str, seconds: int
) -> None:
    file.write_text(text)
    assert driven.now_ns() == clock.now_ns() + seconds * SECOND
    clock.advance(5)
    assert driven.now_ns() == clock.now_ns() + seconds * SECOND


@pytest.mark.parametrize("text", ["", "soon", "+5", "-3d", "\udcff"])
def test_what_says_no_time_changes_nothing(
    file: Path, driven: DrivenClock, clock: ManualClock, text: str
) -> None:
    file.write_text("+1h")
    driven.now_ns()
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert driven.now_ns() == clock.now_ns() + 3600 * SECOND
    file.unlink()
    assert driven.now_ns() == clock.now_ns() + 3600 * SECOND
