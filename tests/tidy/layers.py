"""Which package may import which: the floors and rooms of ``ebsim/ARCHITECTURE.md``."""

import ast
from collections.abc import Iterator

from tests.tidy.source_tree import Module

GROUND = frozenset(
    {
        "clock",
        "config",
        "disk_errors",
        "durable_files",
        "background_writes",
        "staged_file",
        "errors",
        "ids",
        "progress",
        "system_calls",
        "units",
        "waiting",
    }
)
"""Modules, and packages, that every floor may use; among themselves they may not form a cycle."""

MAY_IMPORT: dict[str, frozenset[str]] = {
    "content": frozenset(),
    "backends": frozenset(),
    "metadata": frozenset(),
    "chunkstore": frozenset({"content", "backends", "metadata"}),
    "blockmap": frozenset({"content", "chunkstore"}),
    "catalog": frozenset({"content", "blockmap", "metadata", "backends"}),
    "nbd": frozenset(),
    "sources": frozenset({"nbd"}),
    "volumes": frozenset({"content", "chunkstore", "blockmap"}),
    "attach": frozenset({"nbd", "volumes"}),
    "engine": frozenset(
        {
            "content",
            "backends",
            "metadata",
            "chunkstore",
            "blockmap",
            "catalog",
            "sources",
            "volumes",
        }
    ),
    # Measures with the store's own hashes, codecs and sizes, and reads disks of both kinds.
    "analysis": frozenset(
        {"content", "chunkstore", "blockmap", "catalog", "sources", "engine", "volumes"}
    ),
    # What verbs take and give is the catalog's.
    "api": frozenset({"engine", "catalog"}),
    "cli": frozenset({"engine", "attach", "analysis", "api"}),
}
"""What each package may import beside itself and the ground."""

NAMED_BY_CLI = frozenset(
    {
        "ebsim.catalog.audience",
        "ebsim.catalog.event",
        "ebsim.catalog.event_pattern",
        "ebsim.catalog.lifecycle_policy",
        "ebsim.catalog.fast_restore",
        "ebsim.catalog.instance",
        "ebsim.catalog.retention_rule",
        "ebsim.catalog.snapshot",
        "ebsim.catalog.snapshot_filter",
        "ebsim.catalog.snapshot_lock",
        "ebsim.catalog.volume",
        "ebsim.sources.standard_input",
    }
)
"""Modules below the engine that ``cli`` may import: what verbs take from it and give to it."""


def imported_names(module: Module) -> Iterator[tuple[int, str]]:
    """The line and dotted name of everything of ours that *module* imports, anywhere in it."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # ``from ebsim import errors`` imports a module, not a name in one.
            prefix = node.module
            names = (
                [f"{prefix}.{alias.name}" for alias in node.names]
                if prefix == "ebsim"
                else [prefix]
            )
        else:
            continue
        for name in names:
            if name == "ebsim" or name.startswith("ebsim."):
                yield node.lineno, name


def room(dotted_name: str) -> str:
    """The part of a dotted name below ``ebsim``: a package, a ground module, or nothing."""
    below = dotted_name.split(".")[1:2]
    return "" if not below or below[0].startswith("__version__") else below[0]


def trespasses(module: Module) -> list[str]:
    """The imports of *module* that its floor does not allow, a sentence each."""
    here = room(module.name)
    if here == "__main__":
        allowed = frozenset({"cli", ""})
    elif here in GROUND or here == "":
        allowed = GROUND | {""}
    else:
        assert here in MAY_IMPORT, (
            f"{module.name}: say in layers.py what 'ebsim.{here}' may import"
        )
        allowed = MAY_IMPORT[here] | GROUND | {here, ""}
    return [
        f"{module.name}:{line}: ebsim.{here} may not import {name}"
        for line, name in imported_names(module)
        if room(name) not in allowed and not (here == "cli" and name in NAMED_BY_CLI)
    ]
