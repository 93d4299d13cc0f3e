"""Drawing in SVG: shapes and text that take their colours from the page's style sheet.

Charts are drawn 720 units wide, in the text size of the page at full width.  Colours are
classes (``page.py``), so that the same drawing is light, dark or printed.
"""

from collections.abc import Iterable, Sequence
from html import escape
from math import ceil, floor, log10

WIDTH = 720
"""The width of every chart."""

_STEPS = (1, 2, 2.5, 5, 10)


class Drawing:
    """A chart being drawn, from its top left corner."""

    def __init__(self, height: float, label: str) -> None:
        self._height = height
        self._label = label
        self._parts: list[str] = []

    def rect(
        self, x: float, y: float, width: float, height: float, *, kind: str, tip: str = ""
    ) -> None:
        """A filled rectangle; *tip* shows when it is pointed at."""
        title = f"<title>{escape(tip)}</title>" if tip else ""
        self._parts.append(
            f'<rect class="{kind}" x="{x:.2f}" y="{y:.2f}" width="{max(0, width):.2f}" '
            f'height="{max(0, height):.2f}">{title}</rect>'
        )

    def columns(self, bars: Iterable[tuple[float, float, float, float]], *, kind: str) -> None:
        """Many filled rectangles, (x, y, width, height), as one shape."""
        path = "".join(f"M{x:.2f} {y:.2f}h{w:.2f}v{h:.2f}h{-w:.2f}z" for x, y, w, h in bars)
        if path:
            self._parts.append(f'<path class="{kind}" d="{path}"/>')

    def shade(
        self, x: float, y: float, width: float, height: float, *, share: float, tip: str
    ) -> None:
        """A rectangle of the heat colour, as strong as *share*, from 0 to 1."""
        title = f"<title>{escape(tip)}</title>" if tip else ""
        self._parts.append(
            f'<rect class="heat" fill-opacity="{share:.3f}" x="{x:.2f}" y="{y:.2f}" '
            f'width="{width:.2f}" height="{height:.2f}">{title}</rect>'
        )

    def slanted(self, x: float, y: float, text: str, *, anchor: str = "end") -> None:
        """Small *text* that rises to the right, and ends, or with *anchor* starts, at a point."""
        self._parts.append(
            f'<text class="small" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
            f'transform="rotate(-35 {x:.1f} {y:.1f})">{escape(text)}</text>'
        )

    def text(
        self, x: float, y: float, text: str, *, kind: str = "", anchor: str = "start"
    ) -> None:
        """*text* on the baseline at *y*."""
        extra = f' class="{kind}"' if kind else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, *, kind: str) -> None:
        """A straight line."""
        self._parts.append(
            f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
        )

    def polyline(self, points: Sequence[tuple[float, float]], *, kind: str) -> None:
        """A line through *points*, with a dot on each where they are few."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline class="line {kind}" points="{path}"/>')
        if len(points) <= 40:
            for x, y in points:
                self._parts.append(f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')

    def markup(self) -> str:
        """The chart as an SVG element."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self._height:.0f}" '
            f'role="img" aria-label="{escape(self._label)}">{"".join(self._parts)}</svg>'
        )


def ticks(greatest: float, wanted: int = 5) -> list[float]:
    """Round numbers from 0 to *greatest* or a little more, about as many as *wanted*."""
    if greatest <= 0:
        return [0.0, 1.0]
    rough = greatest / wanted
    power = 10.0 ** floor(log10(rough))
    step = next(each * power for each in _STEPS if each * power >= rough * 0.999)
    return [step * turn for turn in range(ceil(greatest / step - 1e-9) + 1)]


def size_scale(greatest_bytes: float) -> tuple[float, str]:
    """The unit that suits an axis up to *greatest_bytes*: how many bytes it is, its name."""
    factor, name = 1.0, "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if greatest_bytes < factor * 1024:
            break
        factor, name = factor * 1024, larger
    return factor, name


def spread_labels(places: Sequence[float], gap: float, lowest: float) -> list[float]:
    """*places* moved apart so that no two are nearer than *gap*, none below *lowest*.

    Their order stays; the smallest move is not sought, only one that can be read.
    """
    order = sorted(range(len(places)), key=lambda at: places[at])
    moved = list(places)
    previous = None
    for at in order:
        if previous is not None:
            moved[at] = max(moved[at], previous + gap)
        previous = moved[at]
    overshoot = (previous or 0.0) - lowest
    for at in reversed(order):
        if overshoot <= 0:
            break
        moved[at] = min(moved[at], lowest)
        lowest = moved[at] - gap
    return moved
