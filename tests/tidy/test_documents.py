"""What the documents say is what the code does."""

import re
from importlib import import_module
from pathlib import Path

import click
import pytest

from ebsim.cli.exit_codes import ExitCode
from ebsim.cli.fast_restore import FAST_RESTORE_COMMANDS
from ebsim.cli.instance import INSTANCE_COMMANDS
from ebsim.cli.lazy_commands import COMMANDS, LazyCommand
from ebsim.cli.lifecycle import LIFECYCLE_COMMANDS
from ebsim.cli.main import ebsim
from ebsim.cli.recycle_bin import RECYCLE_BIN_COMMANDS, RULE_COMMANDS
from ebsim.cli.shown_events import EVENT_COMMANDS
from ebsim.cli.snapshot import SNAPSHOT_COMMANDS
from ebsim.cli.volume import VOLUME_COMMANDS
from tests.tidy.source_tree import ROOT

README = (ROOT / "README.md").read_text("utf-8")
FORMAT = ROOT / "ebsim" / "FORMAT.md"


def all_commands() -> dict[str, click.Command]:
    """Every command that does something, by what a user types after ``ebsim``."""
    found: dict[str, click.Command] = {}
    context = click.Context(ebsim)

    def visit(group: click.Group, words: str) -> None:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if isinstance(command, click.Group):
                visit(command, f"{words}{name} ")
            if not isinstance(command, click.Group) or command.invoke_without_command:
                found[f"{words}{name}"] = command

    visit(ebsim, "")
    return found


ALL_COMMANDS = all_commands()


def table_rows(text: str, *headers: str) -> list[tuple[str, ...]]:
    """The rows of every Markdown table in *text* that begins with these *headers*."""
    rows: list[tuple[str, ...]] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = tuple(cell.strip().strip("`") for cell in line.strip().strip("|").split("|"))
        if cells[: len(headers)] == headers:
            inside = True
        elif inside and not set(cells[0]) <= {"-", ":"}:
            rows.append(cells)
    return rows


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_a_command_has_help_with_an_example_of_itself(name: str) -> None:
    text = ALL_COMMANDS[name].help or ""
    assert "Example:" in text or "Examples:" in text
    assert f"ebsim {name}" in re.split(r"Examples?:", text)[1]


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_option_of_a_command_says_what_it_does(name: str) -> None:
    silent = [
        parameter.name
        for parameter in ALL_COMMANDS[name].params
        if isinstance(parameter, click.Option) and not parameter.help
    ]
    assert silent == []


def test_the_readme_has_exactly_the_commands_there_are() -> None:
    assert sorted(
        row[0].removeprefix("ebsim ") for row in table_rows(README, "command")
    ) == sorted(ALL_COMMANDS)


GROUPED = [
    *COMMANDS.values(),
    *SNAPSHOT_COMMANDS.values(),
    *VOLUME_COMMANDS.values(),
    *INSTANCE_COMMANDS.values(),
    *FAST_RESTORE_COMMANDS.values(),
    *RECYCLE_BIN_COMMANDS.values(),
    *RULE_COMMANDS.values(),
    *EVENT_COMMANDS.values(),
    *LIFECYCLE_COMMANDS.values(),
]


@pytest.mark.parametrize("place", GROUPED, ids=lambda place: f"{place.module}.{place.attribute}")
def test_the_list_of_commands_and_a_command_s_own_help_begin_alike(place: LazyCommand) -> None:
    command = getattr(import_module(place.module), place.attribute)
    assert (command.help or "").split("\n\n")[0].replace("\n", " ").strip() == place.summary


def test_the_readme_has_exactly_the_exit_codes_there_are() -> None:
    documented = [(int(code), name) for code, name, *_ in table_rows(README, "code", "name")]
    assert documented == [(int(code), code.name) for code in ExitCode]


def test_the_readme_has_one_command_to_install_and_one_to_test_each_on_a_line() -> None:
    commands = [line for line in README.splitlines() if line.startswith("$(command -v sudo)")]
    assert [line.rpartition(" && ")[2].split()[0] for line in commands] == [
        ".venv/bin/ebsim",
        ".venv/bin/pytest",
    ]


def test_continuous_integration_runs_the_readme_s_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    (pattern,) = re.findall(r"grep -E '([^']+)' README.md", script)
    commands = [line for line in README.splitlines() if re.search(pattern, line)]
    assert len(commands) == 1
    assert 'eval "$test_command"' in script


@pytest.mark.skipif(not FORMAT.exists(), reason="the format is not written down yet")
def test_the_constants_of_the_format_are_those_of_the_code() -> None:
    """Tables headed ``constant | value`` name a constant as ``package.module.NAME``."""
    rows = table_rows(FORMAT.read_text("utf-8"), "constant", "value")
    assert rows, "FORMAT.md has a table with the columns 'constant' and 'value'"
    differing = []
    for constant, value, *_ in rows:
        module_name, _, name = constant.rpartition(".")
        found = getattr(import_module(f"ebsim.{module_name}"), name)
        if repr(found) != value and str(found) != value:
            differing.append(f"{constant} is {found!r}, FORMAT.md says {value}")
    assert differing == []


def test_a_table_is_read_as_it_is_written() -> None:
    text = "| a | b |\n|---|:--|\n| `x` | 1 |\n\n| c |\n|---|\n| y |\n"
    assert table_rows(text, "a", "b") == [("x", "1")]


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*.md")) + sorted((ROOT / "ebsim").rglob("*.md"))
)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text("utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []
