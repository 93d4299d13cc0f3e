"""The project's own source, parsed, for the tests that judge it."""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

READS_ALL_MODULES = pytest.mark.xdist_group("source_tree")
"""For tests that look at every file: parsing them takes longer than looking, so once."""


@dataclass(frozen=True, slots=True)
class Module:
    """A Python file of the project and what it says."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """Dotted, as it is imported."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def line_count(self) -> int:
        return len(self.text.splitlines())

    def functions(self) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        return [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]


@cache
def modules(folder: str) -> tuple[Module, ...]:
    """Every Python file under *folder* of the project, sorted by path."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text("utf-8")
        found.append(Module(path, text, ast.parse(text, str(path))))
    return tuple(found)
