from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.engine_table import ROWS
from benchmarks.markdown import NOT_MEASURED, engine_markdown
from benchmarks.readme import README, updated
from benchmarks.results import RESULTS, Figure, Run, read_run, significant, write_run
from tests.tidy.test_documents import table_rows

RUN = Run({"processor": "one"}, "abc", 1, 5, [Figure("first", [0.5, 0.9], True, "0.70")])


def test_the_readme_s_tables_are_what_was_measured() -> None:
    text = README.read_text("utf-8")
    assert updated(text, RESULTS) == text, "run: python -m benchmarks.readme"


def test_a_row_without_a_figure_says_that_it_was_not_measured(tmp_path: Path) -> None:
    text = updated(README.read_text("utf-8"), tmp_path)
    rows = table_rows(text, "what", "must reach")
    assert [row[2] for row in rows] == [NOT_MEASURED] * len(ROWS)


def test_a_figure_stands_in_its_row() -> None:
    rows = table_rows(engine_markdown(RUN), "what", "must reach")
    assert rows[0][2:] == ("0.70", "0.50 to 0.90", "yes")
    assert rows[1][2:] == (NOT_MEASURED, "", "")


def test_rows_measured_later_join_those_measured_before(tmp_path: Path) -> None:
    path = tmp_path / "engine.json"
    write_run(path, RUN)
    later = Figure("first", [0.6, 0.6], False, "0.60")
    write_run(path, replace(RUN, figures=[Figure("index", [110.0], True, "110"), later]))
    assert [(figure.key, figure.shown) for figure in read_run(path).figures] == [
        ("index", "110"),
        ("first", "0.60"),
    ]


def test_rows_of_another_commit_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "engine.json"
    write_run(path, RUN)
    write_run(path, replace(RUN, commit="def", figures=[Figure("index", [110.0], True, "110")]))
    assert [figure.key for figure in read_run(path).figures] == ["index"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0.123, "0.12"), (0.0123, "0.012"), (1.0, "1.00"), (12.34, "12.3"),
        (123.4, "123"), (12345.6, "12,346"),
    ],
)  # fmt: skip
def test_a_figure_has_two_or_three_digits_that_count(value: float, text: str) -> None:
    assert significant(value) == text
