"""Lines over a row of images or steps, each named at its end."""

from collections.abc import Sequence
from math import ceil, floor, log
from typing import NamedTuple

from ebsim.analysis.svg import WIDTH, Drawing, size_scale, spread_labels, ticks

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 204, 30, 300
_NAMES_MAX = 14
_BASE = 8


class Line(NamedTuple):
    """A line: its name, its colour class, a value in bytes for each place."""

    name: str
    kind: str
    values: Sequence[float]


def line_chart(
    lines: Sequence[Line], names: Sequence[str], *, label: str, is_logarithmic: bool = False
) -> str:
    """Draw *lines* over *names*; values are bytes, zeros lie on the floor of a log scale."""
    drawing = Drawing(_BOTTOM + 78, label)
    greatest = max((value for line in lines for value in line.values), default=0.0)
    scale = _Logarithmic(lines, greatest) if is_logarithmic else _Linear(greatest)
    drawing.text(0, 14, scale.title, kind="soft")
    for value, name in scale.marks:
        y = scale.y(value)
        drawing.line(_LEFT, y, WIDTH - _RIGHT, y, kind="grid")
        drawing.text(_LEFT - 6, y + 4, name, kind="soft small", anchor="end")
    count = len(names)
    step = (WIDTH - _LEFT - _RIGHT - 24) / max(1, count - 1)
    xs = [_LEFT + 12 + step * turn for turn in range(count)]
    every = max(1, ceil(count / _NAMES_MAX))
    for turn in range(0, count, every):
        drawing.slanted(xs[turn], _BOTTOM + 16, names[turn])
    ends = [scale.y(line.values[-1]) for line in lines]
    for line, end in zip(lines, spread_labels(ends, 17, _BOTTOM), strict=True):
        drawing.polyline(
            [(x, scale.y(value)) for x, value in zip(xs, line.values, strict=True)],
            kind=line.kind,
        )
        drawing.line(xs[-1] + 5, scale.y(line.values[-1]), xs[-1] + 16, end, kind="grid")
        drawing.rect(xs[-1] + 18, end - 4, 9, 9, kind=line.kind)
        drawing.text(xs[-1] + 32, end + 4, f"{line.name}: {scale.text(line.values[-1])}")
    return drawing.markup()


class _Linear:
    """From 0 to a round number."""

    def __init__(self, greatest: float) -> None:
        self._unit, self._unit_name = size_scale(greatest)
        found = ticks(greatest / self._unit)
        self._top = found[-1] * self._unit
        self.title = f"Size, {self._unit_name}"
        self.marks = [(mark * self._unit, f"{mark:g}") for mark in found]

    def y(self, value: float) -> float:
        return _BOTTOM - value / self._top * (_BOTTOM - _TOP)

    def text(self, value: float) -> str:
        return f"{value / self._unit:.3g} {self._unit_name}"


class _Logarithmic:
    """Powers of eight of bytes, 512 KiB or 4 MiB; what is nothing lies at the bottom."""

    def __init__(self, lines: Sequence[Line], greatest: float) -> None:
        least = min((v for line in lines for v in line.values if v > 0), default=1.0)
        # The logarithm of a power may come out a little less than it is.
        self._low = floor(log(least, _BASE) + 1e-9)
        self._high = max(self._low + 1, ceil(log(max(greatest, 1.0), _BASE) - 1e-9))
        every = max(1, (self._high - self._low) // 6)
        self.title = "Bytes"
        self.marks = [
            (float(_BASE**power), _size(float(_BASE**power)))
            for power in range(self._low, self._high + 1, every)
        ]

    def y(self, value: float) -> float:
        power = log(value, _BASE) if value > 0 else self._low
        share = (power - self._low) / (self._high - self._low)
        return _BOTTOM - share * (_BOTTOM - _TOP)

    def text(self, value: float) -> str:
        return _size(value)


def _size(value: float) -> str:
    """*value* bytes in the unit that suits them: ``20 KiB``, ``1.5 MiB``."""
    unit, name = size_scale(value)
    return f"{value / unit:.3g} {name}"
