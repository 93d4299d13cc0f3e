"""Figures that tests found, printed after the run: how many states, how long a wait.

A test asks for the ``figure`` fixture and calls it with a sentence.  With pytest-xdist the
figures travel with the reports of the tests.
"""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a sentence after the run, under the name of the test."""

    def note(sentence: str) -> None:
        request.node.user_properties.append(("figure", sentence))

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print all figures."""
    found = [
        f"{report.nodeid}: {sentence}"
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, sentence in report.user_properties
        if name == "figure"
    ]
    if found:
        terminalreporter.section("figures")
    for line in sorted(found):
        terminalreporter.write_line(line)
