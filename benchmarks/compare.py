"""What got faster or slower between two reports, beyond the noise.

    python -m benchmarks.compare BEFORE.json AFTER.json

The noise of a figure is the extent of its runs.  A figure changed if the extents do not
overlap; one that was measured once, on either side, if it differs by more than a tenth.
Reports of different machines, scales or seeds are compared with a warning.
"""

import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from benchmarks.markdown import markdown_table
from benchmarks.measurement import Better, Measurement, Report, read_report
from benchmarks.results import significant

_ONCE_MARGIN = 0.1


class Verdict(StrEnum):
    """What became of a figure."""

    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"
    SAME = "within the noise"


class Comparison(NamedTuple):
    """A figure in two reports."""

    before: Measurement
    after: Measurement
    verdict: Verdict

    @property
    def ratio(self) -> float:
        """The figure after beside that before."""
        return self.after.middle / self.before.middle if self.before.middle else float("inf")


def compared(before: Report, after: Report) -> Iterator[Comparison]:
    """Yield the figures that both reports have, in the order of the first."""
    known = {each.key: each for each in after.measurements}
    for each in before.measurements:
        if each.key in known:
            yield Comparison(each, known[each.key], _verdict(each, known[each.key]))


def _verdict(before: Measurement, after: Measurement) -> Verdict:
    low = [min(each.values) for each in (before, after)]
    high = [max(each.values) for each in (before, after)]
    if min(len(before.values), len(after.values)) < 2:
        margin = _ONCE_MARGIN * abs(before.middle)
        is_same = abs(after.middle - before.middle) <= margin
    else:
        is_same = low[0] <= high[1] and low[1] <= high[0]
    if is_same:
        return Verdict.SAME
    if before.better is Better.NEITHER:
        return Verdict.CHANGED
    is_less = after.middle < before.middle
    return Verdict.BETTER if is_less == (before.better is Better.LESS) else Verdict.WORSE


def difference_of_settings(before: Report, after: Report) -> list[str]:
    """What differs between what two reports hold for, a sentence each."""
    pairs = {
        "machine": (before.machine, after.machine),
        "scale": (before.scale, after.scale),
        "seed": (before.seed, after.seed),
    }
    return [
        f"The {name} differs: {one}, then {other}."
        for name, (one, other) in pairs.items()
        if one != other
    ]


def comparison_markdown(before: Report, after: Report) -> str:
    """What changed as a table, the greatest changes first; what did not in one line."""
    found = list(compared(before, after))
    changed = [each for each in found if each.verdict is not Verdict.SAME]
    changed.sort(key=lambda each: abs(each.ratio - 1), reverse=True)
    rows = [
        [
            each.before.key,
            each.verdict,
            significant(each.before.middle),
            significant(each.after.middle),
            f"{each.ratio - 1:+.0%}",
            each.before.unit,
        ]
        for each in changed
    ]
    lines = difference_of_settings(before, after)
    lines.append(f"{before.commit} and {after.commit}: {len(found)} figures in both.")
    if rows:
        head = ["row", "verdict", "before", "after", "change", "unit"]
        lines.append(markdown_table(head, rows, left_count=2))
    lines.append(f"{len(found) - len(changed)} figures are within the noise.")
    missing = {each.key for each in before.measurements} ^ {
        each.key for each in after.measurements
    }
    if missing:
        lines.append(f"In one report only: {', '.join(sorted(missing))}.")
    return "\n\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 2:
        raise SystemExit("usage: python -m benchmarks.compare BEFORE.json AFTER.json")
    before, after = (read_report(Path(name)) for name in arguments)
    print(comparison_markdown(before, after))


if __name__ == "__main__":
    main(sys.argv[1:])
