"""How the command starts and ends, as a real process and in this one."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ebsim import __version__, errors
from ebsim.cli import main as main_module
from ebsim.cli.exit_codes import ExitCode, exit_code_of
from ebsim.cli.lazy_commands import COMMANDS, LazyCommand
from ebsim.cli.settings import Settings
from ebsim.cli.snapshot import SNAPSHOT_COMMANDS
from tests.cli.processes import command, environment, pseudo_terminal, run_ebsim
from tests.tidy.source_tree import ROOT

HEAVY = {"rich", "lmdb", "zstandard", "blake3", "xxhash", "json", "subprocess", "ebsim.engine"}
"""What costs a command that has no use for it tens of milliseconds."""

NOT_FOR_A_RAW_IMAGE = {
    "rich", "platformdirs", "socket", "subprocess", "tempfile", "ssl", "email", "http", "asyncio",
    "multiprocessing", "ebsim.sources.disk_image", "ebsim.sources.nbd_client", "ebsim.nbd",
    "ebsim.attach", "ebsim.cli.listed_snapshots", "ebsim.cli.deleted_snapshots",
    "ebsim.cli.verified_snapshots", "ebsim.engine.delete_snapshot", "ebsim.engine.list_snapshots",
    "ebsim.engine.diff_snapshots", "ebsim.engine.restore_snapshot", "ebsim.engine.check_store",
    "ebsim.engine.compact_store", "ebsim.engine.rebuild_store",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """``main`` owns its process; here it must give the signals back."""
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def add_command(monkeypatch: pytest.MonkeyPatch):
    """Give ``ebsim`` one more command, whose body is the function passed."""

    def add(name, body):
        module = f"tests.cli.command_{name}"
        holder = type(sys)(module)
        holder.command = click.command(name)(body)
        monkeypatch.setitem(sys.modules, module, holder)
        monkeypatch.setitem(COMMANDS, name, LazyCommand(module, "command", "Only for a test."))

    return add


def ending_of(add_command, capsys, body) -> tuple[int, str, str]:
    add_command("probe", body)
    code = main_module.main(["probe"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def all_errors(kind: type[errors.EbsimError] = errors.EbsimError) -> list[type[errors.EbsimError]]:
    return [c for child in kind.__subclasses__() for c in [child, *all_errors(child)]]


def modules_loaded_by(*arguments: str) -> set[str]:
    """What a process has imported that ran ``ebsim`` with *arguments*.

    Processor time is measured in benchmarks/; this is what would cost it.
    """
    script = (
        "import sys; from ebsim.cli.main import main; code = main(sys.argv[1:]); "
        "print('loaded:', *sorted(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(done.stderr.partition("loaded: ")[2].split())
    assert "ebsim.cli.main" in loaded
    return loaded


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_answering_at_once_imports_nothing_heavy(option: str) -> None:
    loaded = modules_loaded_by(option)
    assert loaded & (HEAVY | {"platformdirs"}) == set()
    assert {place.module for place in COMMANDS.values()} & loaded == set()


def test_the_help_of_a_group_imports_nothing_heavy() -> None:
    loaded = modules_loaded_by("snapshot", "--help")
    assert loaded & HEAVY == set()
    assert {place.module for place in SNAPSHOT_COMMANDS.values()} & loaded == set()


def test_a_snapshot_of_a_raw_image_imports_what_it_needs_and_no_more(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(range(256)) * 16)
    loaded = modules_loaded_by("--home", str(tmp_path / "home"), "snapshot", "create", str(image))
    assert {"ebsim.engine.create_snapshot", "lmdb", "zstandard"} <= loaded
    assert loaded & NOT_FOR_A_RAW_IMAGE == set()


def test_garbage_is_looked_for_seldom_enough_for_a_start_to_find_none() -> None:
    script = (
        "import gc; from ebsim.__main__ import main; import ebsim.engine.create_snapshot; "
        "print(gc.get_stats()[0]['collections'], gc.isenabled())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    count, is_enabled = done.stdout.split()
    # 700 at a time it would be more than fifty.
    assert int(count) < 10
    assert is_enabled == "True"


def test_the_version_is_on_standard_output() -> None:
    done = run_ebsim("--version")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"ebsim, version {__version__}\n",
        "",
    )


def test_help_names_every_command() -> None:
    listed = run_ebsim("--help").stdout.partition("Commands:\n")[2]
    assert re.findall(r"^  (\S+)", listed, re.MULTILINE) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_s_help_is_on_standard_output(name: str) -> None:
    done = run_ebsim(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: ebsim {name}")


@pytest.mark.parametrize("arguments", [[], ["snapshot"]])
def test_no_command_shows_help_on_standard_error(arguments: list[str]) -> None:
    done = run_ebsim(*arguments)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert "Commands:" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nonsense"], "nonsense"),
        (["snapshot", "nonsense"], "nonsense"),
        (["--output", "xml", "volume", "ls"], "'xml'"),
        (["--account", "12345", "volume", "ls"], "12 digits"),
        (["--home", "pyproject.toml", "volume", "ls"], "pyproject.toml"),
        (["snapshot", "create"], "SOURCE"),
        (["snapshot", "create", "x", "--tag", "untagged"], "KEY=VALUE"),
        (["snapshot", "create", "x", "--block-size", "big"], "512K"),
        (["snapshot", "create", "x", "--level", "99"], "99"),
        (["snapshot", "create", "x", "--volume", "vol-1"], "standard input"),
        (["snapshot", "ls", "--filter", "env=test"], "Name=NAME"),
        (["snapshot", "ls", "--state", "lost"], "lost"),
        (["store", "check", "--sample", "5%"], "--read-data"),
        (["store", "check", "--read-data", "--sample", "0%"], "5%"),
        (["restore", "snap-1", "-", "--verify"], "standard output"),
        (["export", "snap-1", "x", "--format", "floppy"], "floppy"),
    ],
)
def test_a_senseless_command_line_gets_one_line_and_code_2(arguments, part, capsys) -> None:
    code = main_module.main(arguments)
    captured = capsys.readouterr()
    assert (code, captured.out) == (ExitCode.USAGE, "")
    assert captured.err.startswith("ebsim: error: ")
    assert part in captured.err
    assert "--help'." in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("kind", all_errors())
def test_every_failure_that_ebsim_knows_has_a_code_of_its_own_meaning(kind) -> None:
    """A new branch of the tree of errors must not end as if it were a bug."""
    assert exit_code_of(kind.__new__(kind)) not in {ExitCode.OK, ExitCode.BUG, ExitCode.USAGE}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SnapshotNotFound("snap-1"), ExitCode.NOT_FOUND),
        (errors.UnsupportedParameter("no such thing"), ExitCode.INVALID_REQUEST),
        (errors.ChunkMissing(b"\0" * 32), ExitCode.INTEGRITY_ERROR),
        (errors.StorageUnavailable("the disk is ill"), ExitCode.STORAGE_UNAVAILABLE),
        (errors.StorageFull("no room"), ExitCode.STORAGE_FULL),
    ],
)
def test_a_failure_ends_in_its_sentence_and_its_code(error, code, add_command, capsys) -> None:
    def body() -> None:
        raise error

    assert ending_of(add_command, capsys, body) == (code, "", f"ebsim: error: {error}\n")


def test_a_message_stays_on_one_line_and_cannot_move_the_cursor(add_command, capsys) -> None:
    def body() -> None:
        raise errors.NotFound("no volume\n  'a\x1b[2Jb'")

    assert ending_of(add_command, capsys, body)[2] == "ebsim: error: no volume 'a\\x1b[2Jb'\n"


def test_a_path_that_cannot_be_opened_is_named_with_the_system_s_reason(
    add_command, capsys, tmp_path: Path
) -> None:
    missing = tmp_path / "missing"

    code, _, message = ending_of(add_command, capsys, missing.read_bytes)

    assert code == ExitCode.STORAGE_UNAVAILABLE
    assert message == f"ebsim: error: {missing}: No such file or directory.\n"


def test_a_full_disk_seen_by_the_command_line_itself_has_the_code_of_a_full_disk() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("--help"), cwd=ROOT, env=environment(), stdout=full,
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == ExitCode.STORAGE_FULL
    assert done.stderr == "ebsim: error: No space left on device.\n"


def test_nobody_reading_the_output_ends_quietly() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        command("--help"), cwd=ROOT, env=environment(), stdout=write_end,
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write_end)
    assert (done.returncode, done.stderr) == (ExitCode.OUTPUT_CLOSED, "")


def test_a_pipe_broken_elsewhere_is_an_error_that_is_told(add_command, capsys) -> None:
    def body() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    code, _, message = ending_of(add_command, capsys, body)
    assert (code, message) == (
        ExitCode.STORAGE_UNAVAILABLE,
        "ebsim: error: Broken pipe.\n",
    )


def test_an_interruption_ends_in_one_line_and_code_130(add_command, capsys) -> None:
    def body() -> None:
        # A shell has what it runs in the background ignore interruptions, tests too.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.signal(signal.SIGINT, before)

    ending = ending_of(add_command, capsys, body)
    assert ending == (ExitCode.INTERRUPTED, "", "ebsim: error: interrupted.\n")


def test_termination_runs_what_must_be_undone(add_command) -> None:
    undone = []

    def body() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            undone.append(True)

    add_command("probe", body)
    with pytest.raises(SystemExit) as ending:
        main_module.main(["probe"])
    assert (ending.value.code, undone) == (128 + signal.SIGTERM, [True])


def test_a_bug_is_shown_with_its_traceback(add_command) -> None:
    def body() -> None:
        raise KeyError("a bug")

    add_command("probe", body)
    with pytest.raises(KeyError):
        main_module.main(["probe"])


def test_running_without_assertions_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-m", "ebsim", "--version"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert "python -O" in done.stderr
    assert done.stderr.count("\n") == 1


def settings_given(add_command, *arguments: str) -> Settings:
    seen: list[Settings] = []
    add_command("probe", click.pass_obj(lambda settings: seen.append(settings)))
    assert main_module.main([*arguments, "probe"]) == 0
    return seen[0]


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in ("EBSIM_HOME", "EBSIM_REGION", "EBSIM_ACCOUNT", "EBSIM_OUTPUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return monkeypatch


@pytest.mark.usefixtures("clean_environment")
def test_defaults_are_those_of_the_readme(add_command, tmp_path: Path) -> None:
    settings = settings_given(add_command)
    assert settings.home == tmp_path / "ebsim"
    assert (settings.region_name, settings.account_id) == ("us-east-1", "123456789012")
    assert (settings.wants_json, settings.is_quiet) == (False, False)


def test_options_go_before_the_environment_and_that_before_defaults(
    add_command, clean_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clean_environment.setenv("EBSIM_HOME", str(tmp_path / "of-environment"))
    clean_environment.setenv("EBSIM_REGION", "eu-west-1")
    clean_environment.setenv("EBSIM_ACCOUNT", "000000000001")
    clean_environment.setenv("EBSIM_OUTPUT", "json")

    settings = settings_given(add_command, "--region", "ap-south-1", "-q")

    assert settings.home == tmp_path / "of-environment"
    assert (settings.region_name, settings.account_id) == ("ap-south-1", "000000000001")
    assert (settings.wants_json, settings.is_quiet) == (True, True)


def test_progress_is_shown_on_a_terminal_only_and_not_when_quiet() -> None:
    """Run a process whose standard error is a terminal of its own, then read what it drew."""
    script = (
        "import sys, pathlib; from ebsim.cli.settings import *\n"
        "s = Settings(pathlib.Path(), 'r', '1' * 12, OutputFormat.TABLE, sys.argv[1] == 'quiet')\n"
        "with s.watching() as bar:\n"
        "    bar.begin('reading disk.img', 1 << 30)\n"
        "    bar.advance(1 << 29)\n"
        "    bar.end()\n"
    )
    drawn = {}
    for how in ("loud", "quiet"):
        ours, theirs = pseudo_terminal()
        subprocess.run(
            [sys.executable, "-c", script, how],
            cwd=ROOT, env=environment(TERM="xterm", COLUMNS="120"), stderr=theirs, check=True,
        )  # fmt: skip
        os.set_blocking(ours, False)
        try:
            drawn[how] = os.read(ours, 65536).decode()
        except BlockingIOError:
            drawn[how] = ""
        os.close(theirs)
        os.close(ours)
    assert "reading disk.img" in drawn["loud"]
    assert "GiB" in drawn["loud"]
    assert drawn["quiet"] == ""
