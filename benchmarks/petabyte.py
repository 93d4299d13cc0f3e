"""From what was measured to a petabyte and a million snapshots, by arithmetic and nothing else.

Each line says what it is computed from.  A cost for each unique block is multiplied by how many
a petabyte has; one that grows with a power is continued with that power, which is a guess as
good as the fit.  What a store saves by deduplication is left out: all blocks are different.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from benchmarks.measurement import UNCLEAR, Fit, Report
from benchmarks.results import significant
from ebsim.analysis.block_digests import size_name
from ebsim.units import KIB, MIB, format_size

PETABYTE = 10**15
SNAPSHOTS = 10**6
BLOCK_SIZES = (64 * KIB, 512 * KIB, 4 * MIB)


class Line(NamedTuple):
    """A line of the page: what, how much, and how it was computed."""

    what: str
    figure: str
    computed: str


def arithmetic(report: Report) -> Iterator[Line]:
    """Yield the page's lines; what was not measured is left out."""
    values = {each.key: each.middle for each in report.measurements}
    fits = {fit.key: fit for fit in report.fits}
    for size in BLOCK_SIZES:
        yield from _of_blocks(values, size)
    memory = fits.get("disk/memory")
    if memory is not None and memory.verdict != UNCLEAR:
        yield Line(
            "memory to take its snapshot",
            format_size(round(_continued(memory, PETABYTE) * MIB)),
            _how(memory, "MiB"),
        )
    for verb in ("create", "list", "show", "delete"):
        fit = fits.get(f"snapshots/{verb}")
        if fit is not None and fit.verdict != UNCLEAR:
            yield Line(
                f"{verb} one of a million snapshots",
                f"{significant(_continued(fit, SNAPSHOTS))} ms",
                _how(fit, "ms"),
            )


def _of_blocks(values: Mapping[str, float], size: int) -> Iterator[Line]:
    count = PETABYTE // size
    blocks = f"{count:,} blocks of {size_name(size)}"
    if "unique block/metadata" in values:
        each = values["unique block/metadata"]
        yield Line(
            f"index of {size_name(size)} blocks",
            format_size(round(count * each)),
            f"{significant(each)} bytes for each of {blocks}",
        )
    for name, what in (("rebuild", "rebuild its metadata"), ("delete", "free all of it")):
        each = values.get(f"unique block/{name}")
        # Less than nothing is noise: small disks' fixed costs are all there was to see.
        if each is not None and each > 0:
            yield Line(
                f"{what}, {size_name(size)} blocks",
                _duration(count * each / 1e6),
                f"{significant(each)} µs for each of {blocks}",
            )


def _continued(fit: Fit, place: float) -> float:
    return fit.values[-1] * (place / fit.places[-1]) ** max(0.0, _power(fit))


def _power(fit: Fit) -> float:
    return {"constant": 0.0, "linear": 1.0}.get(fit.verdict, fit.exponent)


def _how(fit: Fit, unit: str) -> str:
    return (
        f"{significant(fit.values[-1])} {unit} at {fit.place_text(fit.places[-1])}, "
        f"continued as {fit.verdict} in {fit.cause}"
    )


def _duration(seconds: float) -> str:
    for length, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * length:
            return f"{significant(seconds / length)} {name}"
    return f"{significant(seconds)} seconds"
