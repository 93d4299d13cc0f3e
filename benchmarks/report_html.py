"""A report as one page: what it holds for, charts of workloads and growth, all figures."""

from collections.abc import Sequence
from math import isfinite

from benchmarks.measurement import UNCLEAR, Fit, Measurement, Report
from benchmarks.petabyte import arithmetic
from benchmarks.results import short_commit, significant
from ebsim.analysis.page import PageTable, Section, html_page
from ebsim.analysis.svg import WIDTH, Drawing, ticks

_REACHED = {True: "yes", False: "NO", None: ""}
_BAR, _GAP, _LEFT, _RIGHT, _INSET = 16, 8, 292, 110, 32


def benchmark_page(report: Report) -> str:
    """The page as HTML."""
    machine = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    asked = [each for each in report.measurements if each.reached is not None]
    reached = sum(each.reached is True for each in asked)
    lead = (
        f"Scale {report.scale}: {len(report.measurements)} figures, and {reached} of "
        f"{len(asked)} targets reached."
    )
    notes = [
        f"Commit {short_commit(report.commit)}, seed {report.seed}, runs: {report.run_count}; "
        f"{machine}.",
        "A figure is the median of its runs; a thin line goes from the least to the greatest.",
    ]
    if report.scale != "full":
        notes.append("Targets are for the full scale: what is missed here may be reached there.")
    sections = [
        *_workload_sections(report.measurements),
        *(_growth_section(fit) for fit in report.fits),
    ]
    tables = [_figures_table(report.measurements), _fits_table(report.fits), _petabyte(report)]
    if report.not_measured:
        rows = [[name, reason] for name, reason in report.not_measured.items()]
        tables.append(PageTable("Not measured", ["Rows", "Why"], rows, left_count=2))
    return html_page("Benchmarks of ebsim", lead, sections, tables, notes=notes)


def _workload_sections(measurements: Sequence[Measurement]) -> list[Section]:
    by_step: dict[str, list[Measurement]] = {}
    for each in measurements:
        if each.key.startswith("workload "):
            by_step.setdefault(each.key.partition("/")[2], []).append(each)
    return [_bars(step, found) for step, found in by_step.items()]


def _bars(step: str, found: Sequence[Measurement]) -> Section:
    unit = found[0].unit
    slowest = max(found, key=lambda each: each.middle)
    drawing = Drawing(len(found) * (_BAR + _GAP) + 40, step)
    greatest = max(max(each.values) for each in found)
    marks = ticks(greatest)
    room = (WIDTH - _LEFT - _RIGHT) / marks[-1]
    bottom = len(found) * (_BAR + _GAP) + 8
    for mark in marks:
        x = _LEFT + mark * room
        drawing.line(x, 0, x, bottom, kind="grid")
        drawing.text(x, bottom + 16, f"{mark:g}", kind="soft small", anchor="middle")
    drawing.text(WIDTH - 60, bottom + 16, unit, kind="soft small")
    for turn, each in enumerate(found):
        y = 4 + turn * (_BAR + _GAP)
        name = each.title.rpartition(": ")[0]
        drawing.text(_LEFT - 8, y + 12, name, kind="small", anchor="end")
        drawing.rect(_LEFT, y, each.middle * room, _BAR, kind="c1")
        middle = y + _BAR / 2
        low, high = min(each.values), max(each.values)
        drawing.line(_LEFT + low * room, middle, _LEFT + high * room, middle, kind="whisker")
        text = f"{significant(each.middle)} {unit}"
        drawing.text(_LEFT + high * room + 6, y + 12, text, kind="small strong")
    what = found[0].title.rpartition(": ")[2].partition(", of")[0]
    return Section(
        f"{what[0].upper()}{what[1:]}: {significant(slowest.middle)} {unit} at the most, for "
        f"{slowest.title.rpartition(': ')[0]}",
        "Shorter is better.",
        drawing.markup(),
    )


def _growth_section(fit: Fit) -> Section:
    drawing = Drawing(250, fit.title)
    left, right, top, bottom = 70, 60, 14, 210
    marks = ticks(max(fit.values))
    width, height = WIDTH - left - right, bottom - top
    for mark in marks:
        y = bottom - mark / marks[-1] * height
        drawing.line(left, y, WIDTH - right, y, kind="grid")
        drawing.text(left - 8, y + 4, f"{mark:g}", kind="soft small", anchor="end")
    # The first figure stands above its point, and not on the axis' numbers.
    step = (width - _INSET) / max(1, len(fit.places) - 1)
    points = [
        (left + _INSET + turn * step, bottom - value / marks[-1] * height)
        for turn, value in enumerate(fit.values)
    ]
    drawing.polyline(points, kind="c1")
    for (x, y), place, value in zip(points, fit.places, fit.values, strict=True):
        drawing.text(x, y - 9, significant(value), kind="small strong", anchor="middle")
        drawing.text(x, bottom + 18, fit.place_text(place), kind="small", anchor="middle")
    drawing.text(left + width / 2, bottom + 36, fit.cause, kind="soft", anchor="middle")
    said = {
        "constant": f"stays the same, whatever the {fit.cause}",
        "linear": f"grows in proportion to the {fit.cause}",
        UNCLEAR: "growth not to be told from these points",
    }
    growth = said.get(fit.verdict, f"goes with the power {fit.exponent:.2f} of the {fit.cause}")
    error = f" ± {fit.error:.2f}" if isfinite(fit.error) else ""
    return Section(
        f"{fit.title[0].upper()}{fit.title[1:]}: {growth}",
        f"The power fitted through the points is {fit.exponent:.2f}{error}.",
        drawing.markup(),
    )


def _figures_table(measurements: Sequence[Measurement]) -> PageTable:
    rows = [
        [
            each.key,
            each.title.replace("`", ""),
            each.text,
            each.spread,
            each.target,
            _REACHED[each.reached],
        ]
        for each in measurements
    ]
    headers = ["Row", "What", "Median", "Spread", "Must reach", "Reached"]
    return PageTable("All figures", headers, rows, left_count=2)


def _fits_table(fits: Sequence[Fit]) -> PageTable:
    rows = [
        [fit.key, fit.title, fit.cause, fit.verdict, f"{fit.exponent:.2f}", f"{fit.error:.2f}"]
        for fit in fits
    ]
    headers = ["Series", "What", "With", "Growth", "Power", "Error"]
    return PageTable("Growth", headers, rows, left_count=4)


def _petabyte(report: Report) -> PageTable:
    rows = [list(line) for line in arithmetic(report)]
    return PageTable(
        "A petabyte of different blocks, and a million snapshots",
        ["What", "Figure", "From"],
        rows,
        left_count=3,
    )
