import sys
from pathlib import Path

import pytest

from benchmarks.processes import CommandFailed, allocated_bytes, run_measured
from ebsim.units import KIB, MIB


@pytest.mark.slow
def test_a_command_is_not_charged_with_the_memory_of_the_benchmark() -> None:
    """Started directly, it would be: the kernel counts what the process had before exec."""
    held = bytearray(b"\1") * (200 * MIB)
    usage, _ = run_measured(["true"])
    assert usage.peak_bytes < 64 * MIB < len(held)


@pytest.mark.slow
def test_a_command_s_own_memory_and_time_are_its() -> None:
    program = "b = bytearray(b'x') * (150 << 20); n = sum(range(2_000_000)); print(len(b))"
    usage, output = run_measured([sys.executable, "-c", program])
    assert output == f"{150 * MIB}\n"
    assert 150 * MIB < usage.peak_bytes < 250 * MIB
    assert usage.processor_seconds > 0
    assert usage.wall_seconds > 0


def test_python_keeps_compiled_modules_whatever_the_shell_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    program = "import sys; print(sys.dont_write_bytecode)"
    assert run_measured([sys.executable, "-c", program])[1] == "False\n"


def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(CommandFailed, match=r"ended with 2: .*no-such-file"):
        run_measured(["ls", "/no-such-file"])


def test_a_folder_occupies_what_its_files_occupy_and_not_their_holes(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "data").write_bytes(bytes(range(256)) * 256)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(MIB)
    assert 64 * KIB <= allocated_bytes(tmp_path) < 128 * KIB
