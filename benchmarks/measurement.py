"""One figure of a report: what was measured, in what unit, how often, and what is better."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import significant
from ebsim.analysis.svg import size_scale

_NEAR, _ERROR_MAX = 0.15, 0.5
UNCLEAR = "unclear"
"""What is said of growth where the points scatter too much, or are too few."""

DISK_SIZE = "size of the disk"
"""The cause whose places are bytes."""


class Better(StrEnum):
    """Which way a figure should go."""

    LESS = "less"
    MORE = "more"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Measurement:
    """A figure.

    Attributes:
        key: Names it in every report: ``suite/row``.
        values: One a run; their median counts, and their extent is the noise.
        target: What it must reach, in words; empty where nothing is asked.
        reached: Whether it does.
        shown: The figure as a reader sees it, where that is not the median in its unit.
    """

    key: str
    title: str
    unit: str
    values: Sequence[float]
    better: Better = Better.LESS
    target: str = ""
    reached: bool | None = None
    shown: str = ""

    @property
    def text(self) -> str:
        """The figure as a reader sees it."""
        return self.shown or f"{significant(self.middle)} {self.unit}".strip()

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def spread(self) -> str:
        """The least and the greatest value; empty for a single one."""
        if len(self.values) < 2:
            return ""
        return f"{significant(min(self.values))} to {significant(max(self.values))}"


@dataclass(frozen=True, slots=True)
class Fit:
    """How a figure grows: like its cause to the power of *exponent*, within *error*."""

    key: str
    title: str
    cause: str
    places: Sequence[float]
    values: Sequence[float]
    exponent: float
    error: float

    def place_text(self, place: float) -> str:
        """A place of the cause as a reader sees it."""
        if self.cause != DISK_SIZE:
            return f"{place:,.0f}"
        unit, name = size_scale(place)
        return f"{place / unit:g} {name}"

    @property
    def verdict(self) -> str:
        """The growth in words; nothing is said beyond what the points show."""
        if not self.error < _ERROR_MAX:
            return UNCLEAR
        if abs(self.exponent) <= max(_NEAR, self.error):
            return "constant"
        if abs(self.exponent - 1) <= max(_NEAR, self.error):
            return "linear"
        return f"power {self.exponent:.2f}"


@dataclass(frozen=True, slots=True)
class Report:
    """A run of all benchmarks: what was measured, and what it holds for."""

    machine: dict[str, str]
    commit: str
    seed: int
    run_count: int
    scale: str
    measurements: Sequence[Measurement]
    fits: Sequence[Fit] = field(default_factory=tuple)
    not_measured: dict[str, str] = field(default_factory=dict)


def write_report(path: Path, report: Report) -> None:
    """Write *report* as JSON."""
    path.write_text(json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_report(path: Path) -> Report:
    """What ``write_report`` wrote."""
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    found = [
        Measurement(**{**each, "better": Better(each["better"])})
        for each in document["measurements"]
    ]
    fits = [Fit(**each) for each in document["fits"]]
    return Report(**{**document, "measurements": found, "fits": fits})
