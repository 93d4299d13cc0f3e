"""Names, docstrings, and what only some floors may touch."""

import ast
from pathlib import Path

import pytest

from tests.tidy.source_tree import READS_ALL_MODULES, ROOT, Module, modules

pytestmark = READS_ALL_MODULES

EMPTY_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "base", "misc", "core"}
"""Names that say nothing about what a file holds."""

WALL_CLOCK_CALLS = {
    "time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today",
    "datetime.datetime.now", "datetime.datetime.utcnow", "date.today", "time.sleep",
}  # fmt: skip
ENVIRONMENT_CALLS = {"os.environ", "os.getenv", "os.environb", "os.putenv"}
RANDOM_SOURCES = {
    "random.random", "random.randrange", "random.randint", "random.getrandbits", "random.choice",
    "random.sample", "random.shuffle", "random.seed", "os.urandom", "uuid.uuid4", "uuid.uuid1",
    "secrets.token_hex", "secrets.token_bytes",
}  # fmt: skip

ALLOWED = {
    "ebsim.clock": WALL_CLOCK_CALLS,
    "ebsim.waiting": {"time.sleep"},
    "ebsim.config": ENVIRONMENT_CALLS,
    # A variable is the only way to tell mfusepy which libfuse to load.
    "ebsim.attach.fuse_library": ENVIRONMENT_CALLS,
}
"""The modules that the others get these from."""


def dotted(node: ast.AST) -> str:
    """``a.b.c`` for an attribute chain of names, otherwise nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def uses_of_outside(module: Module) -> list[str]:
    """Where *module* reads the clock, the environment or chance by itself, or prints."""
    banned = WALL_CLOCK_CALLS | RANDOM_SOURCES | ENVIRONMENT_CALLS
    in_cli = module.name == "ebsim.cli" or module.name.startswith("ebsim.cli.")
    if in_cli:
        banned -= ENVIRONMENT_CALLS
    banned -= ALLOWED.get(module.name, set())
    imported = {
        alias.asname or alias.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    # A child process inherits the environment, with variables added: nothing is read from it.
    handed_on = {
        inner
        for node in ast.walk(module.tree)
        if isinstance(node, ast.keyword) and node.arg == "env"
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(module.tree):
        if node in handed_on:
            continue
        # ``random.getrandbits`` on a parameter named ``random`` is how it should be.
        if dotted(node) in banned and dotted(node).split(".")[0] in imported:
            found.append(f"{module.name}: {dotted(node)}")
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found += [f"{module.name}:{node.lineno}: {n}" for n in sorted(names & banned)]
        # Data goes through cli/output.py, messages through cli/messages.py.
        if isinstance(node, ast.Call) and dotted(node.func) == "print":
            found.append(f"{module.name}:{node.lineno}: print")
    return found


def written(text: str, name: str = "ebsim.engine.verbs") -> Module:
    return Module(ROOT / Path(*name.split(".")).with_suffix(".py"), text, ast.parse(text))


def test_time_chance_and_the_environment_come_from_outside() -> None:
    assert [use for module in modules("ebsim") for use in uses_of_outside(module)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import time\nnow = time.time()",
        "from time import time_ns",
        "from datetime import datetime\nnow = datetime.now()",
        "import os\nhome = os.environ['HOME']",
        "import os\nid = os.urandom(8)",
        "print('hello')",
    ],
)
def test_reading_the_world_directly_is_found(text: str) -> None:
    assert len(uses_of_outside(written(text))) == 1


def test_handing_the_environment_on_to_a_child_is_no_fault() -> None:
    text = "import os, subprocess\nsubprocess.run(['x'], env=os.environ | {'LC_ALL': 'C'})"
    assert uses_of_outside(written(text)) == []


def test_chance_that_was_passed_in_is_no_fault() -> None:
    text = "from random import Random\ndef f(random: Random):\n    return random.getrandbits(8)"
    assert uses_of_outside(written(text)) == []


def test_files_are_named_for_what_they_hold() -> None:
    assert [
        module.name
        for folder in ("ebsim", "tests", "benchmarks")
        for module in modules(folder)
        if not EMPTY_NAMES.isdisjoint(module.name.replace("_", ".").split("."))
    ] == []


def test_modules_say_what_they_are() -> None:
    """A package's door may be empty; every other file begins with a docstring."""
    silent = []
    for module in modules("ebsim"):
        if module.path.name == "__init__.py" and not module.text.strip():
            continue
        first_line, *_ = (ast.get_docstring(module.tree) or "").split("\n")
        if not first_line.rstrip().endswith((".", ":")):
            silent.append(f"{module.name} begins with no sentence")
    assert silent == []


def test_imports_are_at_the_top() -> None:
    assert [
        f"{module.name}, line {node.lineno}"
        for module in modules("ebsim")
        for function in module.functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ] == []


def test_tests_use_no_mocks_and_no_sleeps() -> None:
    assert [use for module in modules("tests") for use in mocks_and_sleeps(module)] == []


def mocks_and_sleeps(module: Module) -> list[str]:
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
            found += [n for n in names if n.split(".")[0] == "mock" or n.startswith("unittest.m")]
        if isinstance(node, ast.Attribute) and dotted(node) == "time.sleep":
            found.append(f"line {node.lineno}: time.sleep")
    return [f"{module.name}: {use}" for use in found]


@pytest.mark.parametrize(
    "text", ["from unittest.mock import patch", "import mock", "import time\ntime.sleep(1)"]
)
def test_a_mock_and_a_sleep_are_found(text: str) -> None:
    assert len(mocks_and_sleeps(written(text))) >= 1
