"""The tools' figures as a chart: a small bar diagram for each step and measure, as SVG."""

from html import escape
from pathlib import Path
from statistics import median

from benchmarks.peer_results import MEASURES, STEPS, Measure, PeerRun
from benchmarks.results import significant

_PANEL_WIDTH = 300
_LABEL_WIDTH = 90
_VALUE_WIDTH = 52
_BAR_HEIGHT = 14
_BAR_STEP = 18
_HEAD_HEIGHT = 64
_STEP_WIDTH = 84
_GAP = 26

_STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#222}"
    ".title{font-size:15px;font-weight:600}.head{font-size:12px;font-weight:600}"
    ".ours{fill:#0b6e4f}.theirs{fill:#9fb3c8}.whisker{stroke:#222;stroke-width:1}"
)


def chart_name(image_set: str) -> str:
    """The file name of the chart of a set of images."""
    return f"peers-{image_set}.svg"


def write_chart(folder: Path, run: PeerRun, image_set: str) -> None:
    """Write the chart of one set of images into *folder*."""
    (folder / chart_name(image_set)).write_text(chart(run, image_set), "utf-8")


def chart(run: PeerRun, image_set: str) -> str:
    """The chart as SVG text: a row of panels a step, a column a measure."""
    row_height = len(run.tools) * _BAR_STEP + _GAP
    width = _STEP_WIDTH + len(MEASURES) * _PANEL_WIDTH + _GAP
    height = _HEAD_HEIGHT + len(STEPS) * row_height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        _text(16, 24, f"{run.image_sets[image_set]}: shorter is better", "title"),
    ]
    for column, measure in enumerate(MEASURES):
        left = _STEP_WIDTH + column * _PANEL_WIDTH
        parts.append(_text(left + _LABEL_WIDTH, _HEAD_HEIGHT - 14, measure.title, "head"))
        for row, step in enumerate(STEPS):
            top = _HEAD_HEIGHT + row * row_height
            if column == 0:
                parts.append(_text(16, top + 11, step, "head"))
            parts += _panel(run, (image_set, step), measure, left, top)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _panel(
    run: PeerRun, place: tuple[str, str], measure: Measure, left: int, top: int
) -> list[str]:
    """The bars of one step and measure; a line over each is its least to its greatest."""
    image_set, step = place
    values = {tool: run.values(image_set, tool, step, measure) for tool in run.tools}
    greatest = max((value for each in values.values() for value in each), default=0.0)
    room = _PANEL_WIDTH - _LABEL_WIDTH - _VALUE_WIDTH
    scale = room / greatest if greatest else 0.0
    parts = []
    for turn, (tool, found) in enumerate(values.items()):
        y = top + turn * _BAR_STEP
        parts.append(_text(left + _LABEL_WIDTH - 6, y + 11, tool, "", anchor="end"))
        if not found:
            continue
        middle, start = median(found), left + _LABEL_WIDTH
        kind = "ours" if tool == "ebsim" else "theirs"
        parts.append(
            f'<rect class="{kind}" x="{start}" y="{y}" width="{max(middle * scale, 1):.1f}" '
            f'height="{_BAR_HEIGHT}"/>'
        )
        low, high = start + min(found) * scale, start + max(found) * scale
        middle_y = y + _BAR_HEIGHT / 2
        if len(found) > 1:
            parts.append(
                f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" '
                f'y1="{middle_y}" y2="{middle_y}"/>'
            )
        parts.append(_text(round(high) + 5, y + 11, significant(middle), ""))
    return parts


def _text(x: int, y: int, text: str, kind: str, *, anchor: str = "start") -> str:
    class_part = f' class="{kind}"' if kind else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{class_part}>{escape(text)}</text>'
