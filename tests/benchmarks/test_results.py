from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.engine_table import ENGINE
from benchmarks.markdown import NOT_MEASURED
from benchmarks.readme import README, TABLES, updated
from benchmarks.results import RESULTS, Figure, Run, read_runs, significant, write_run
from benchmarks.table import Table, table_markdown
from tests.tidy.test_documents import table_rows

FIRST = Figure("first", [0.5, 0.9], True, "0.70")
INDEX = Figure("index", [110.0], True, "110")
RUN = Run({"processor": "one"}, "abcdefabcdef", 1, 5, [FIRST])


def engine_rows(text: str) -> list[tuple[str, ...]]:
    return table_rows(text, "row", "what", "must reach")


def keys_by_commit(path: Path) -> list[tuple[str, list[str]]]:
    return [(run.commit, [figure.key for figure in run.figures]) for run in read_runs(path)]


def test_the_readme_s_tables_are_what_was_measured() -> None:
    text = README.read_text("utf-8")
    assert updated(text, RESULTS) == text, "run: python -m benchmarks.readme"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_row_of_the_results_is_one_of_the_table(table: Table) -> None:
    path = RESULTS / table.file_name
    runs = read_runs(path) if path.exists() else []
    measured = [figure.key for run in runs for figure in run.figures]
    assert sorted(measured) == sorted(set(measured) & {row.key for row in table.rows})


def test_a_row_without_a_figure_says_that_it_was_not_measured(tmp_path: Path) -> None:
    text = updated(README.read_text("utf-8"), tmp_path)
    keys = [row.key for table in TABLES for row in table.rows]
    assert [(row[0], row[3]) for row in engine_rows(text)] == [(k, NOT_MEASURED) for k in keys]


def test_a_figure_stands_in_its_row_with_its_commit() -> None:
    rows = engine_rows(table_markdown(ENGINE, [RUN]))
    assert rows[0][3:] == ("0.70", "0.50 to 0.90", "yes", "abcdefab")
    assert rows[1][3:] == (NOT_MEASURED, "", "", "")


def test_rows_of_older_commits_are_named_below_the_table() -> None:
    newer = replace(RUN, machine={"processor": "two"}, commit="123456", figures=[INDEX])
    lines = table_markdown(ENGINE, [RUN, newer]).splitlines()
    assert lines[-2:] == [
        "- At the newest commit measured, 123456: `index`. Seed 1, runs: 5; processor: two.",
        "- At an older commit, abcdefab: `first`. Seed 1, runs: 5; processor: one.",
    ]


def test_rows_measured_later_at_the_same_commit_join_those_measured_before(tmp_path: Path) -> None:
    path = tmp_path / "engine.json"
    write_run(path, RUN)
    later = Figure("first", [0.6, 0.6], False, "0.60")
    write_run(path, replace(RUN, figures=[INDEX, later]))
    assert read_runs(path) == [replace(RUN, figures=[INDEX, later])]


@pytest.mark.parametrize(
    "changed",
    [{"commit": "def"}, {"machine": {"processor": "two"}}, {"seed": 2}, {"run_count": 3},
     {"images": {"disk.img": {"size_bytes": 5}}}],
    ids=lambda changed: next(iter(changed)),
)  # fmt: skip
def test_rows_that_hold_for_something_else_keep_what_they_hold_for(
    changed: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "engine.json"
    write_run(path, RUN)
    newer = replace(RUN, figures=[INDEX], **changed)  # type: ignore[arg-type]  # a field each
    write_run(path, newer)
    assert read_runs(path) == [RUN, newer]


def test_a_row_measured_again_leaves_the_run_that_it_was_in(tmp_path: Path) -> None:
    path = tmp_path / "engine.json"
    write_run(path, replace(RUN, figures=[FIRST, INDEX]))
    write_run(path, replace(RUN, commit="def", figures=[FIRST]))
    assert keys_by_commit(path) == [("abcdefabcdef", ["index"]), ("def", ["first"])]
    write_run(path, replace(RUN, commit="def", figures=[INDEX]))
    assert keys_by_commit(path) == [("def", ["first", "index"])]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0.123, "0.12"), (0.0123, "0.012"), (1.0, "1.00"), (12.34, "12.3"),
        (123.4, "123"), (12345.6, "12,346"),
    ],
)  # fmt: skip
def test_a_figure_has_two_or_three_digits_that_count(value: float, text: str) -> None:
    assert significant(value) == text
