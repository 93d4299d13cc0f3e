"""Imports point downwards, and never in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.tidy.layers import MAY_IMPORT, imported_names, trespasses
from tests.tidy.source_tree import READS_ALL_MODULES, ROOT, Module, modules

pytestmark = READS_ALL_MODULES


def written(dotted_name: str, text: str) -> Module:
    path = ROOT / Path(*dotted_name.split(".")).with_suffix(".py")
    return Module(path, text, ast.parse(text))


def test_modules_import_only_from_floors_below() -> None:
    assert [one for module in modules("ebsim") for one in trespasses(module)] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = {module.name for module in modules("ebsim")}
    graph: TopologicalSorter[str] = TopologicalSorter()
    for module in modules("ebsim"):
        for _, name in imported_names(module):
            target = name if name in known else name.rpartition(".")[0]
            if target not in {module.name, "ebsim"}:
                graph.add(module.name, target)
    try:
        graph.prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1]), pytrace=False)


def test_the_floors_themselves_form_no_circle() -> None:
    TopologicalSorter(MAY_IMPORT).prepare()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ebsim.content.digest", "from ebsim.backends.backend import Buffer"),
        ("ebsim.chunkstore.index", "import ebsim.blockmap"),
        ("ebsim.errors", "from ebsim.engine import verbs"),
        ("ebsim.units", "from ebsim import cli"),
        ("ebsim.engine.verbs", "def f():\n    from ebsim.cli import output"),
        ("ebsim.cli.store", "from ebsim.chunkstore.index import ChunkIndex"),
        ("ebsim.cli.store", "from ebsim.catalog.records import find_snapshot"),
    ],
)
def test_an_import_upwards_or_sideways_is_found(name: str, text: str) -> None:
    assert len(trespasses(written(name, text))) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ebsim.engine.verbs", "from ebsim.chunkstore.index import A\nimport os"),
        ("ebsim.cli.main", "from ebsim import __version__"),
        ("ebsim.cli.snapshot", "from ebsim.catalog.snapshot import Snapshot"),
    ],
)
def test_a_downward_import_is_allowed(name: str, text: str) -> None:
    assert trespasses(written(name, text)) == []
