"""The charts of an analysis."""

from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from ebsim.analysis.block_digests import size_name
from ebsim.analysis.layout import REPEATED, SHARED, SINGLE, Layout
from ebsim.analysis.line_chart import Line, line_chart
from ebsim.analysis.page import Section
from ebsim.analysis.results import Analysis, SizeResult
from ebsim.analysis.svg import WIDTH, Drawing, size_scale, ticks
from ebsim.units import format_size

_STRIPS_MAX = 40
_HEAT_MAX = 40
_NUMBERED_MAX = 12
_LEFT = 76
_SIZES_SHOWN = (4 << 10, 64 << 10, 512 << 10, 4 << 20)


def short_names(analysis: Analysis) -> list[str]:
    """The images' names as charts have room for them: what all begin with is left out."""
    names = [PurePath(image.name).name for image in analysis.images]
    if len(set(names)) < len(names):
        names = [image.name for image in analysis.images]
    endings = {PurePath(name).suffix for name in names}
    if len(endings) == 1:
        names = [name.removesuffix(*endings) for name in names]
    return [name if len(name) <= 22 else f"{name[:10]}…{name[-11:]}" for name in names]


def percent(share: float) -> str:
    """*share* as people write it: never 0% or 100% for what is not."""
    if 0 < share < 0.01 or 0.99 < share < 1:
        return f"{share:.1%}" if 0.0005 <= share <= 0.9995 else f"{share:.2%}"
    return f"{share:.0%}"


def store_size_chart(analysis: Analysis) -> Section:
    """What a store would need, by block size."""
    level = analysis.levels[0]
    results, top, bottom = analysis.sizes, 56, 310
    drawing = Drawing(bottom + 46, "Store size by block size")
    greatest = max(
        result.store_bytes(level) + (result.payload[level].error_bytes or 0) for result in results
    )
    unit, unit_name = size_scale(greatest)
    marks = ticks(greatest / unit)
    scale = (bottom - top) / marks[-1] / unit
    drawing.text(0, 14, f"Store size, {unit_name}", kind="soft")
    for mark in marks:
        y = bottom - mark * unit * scale
        drawing.line(_LEFT - 20, y, WIDTH, y, kind="grid")
        drawing.text(_LEFT - 26, y + 4, f"{mark:g}", kind="soft", anchor="end")
    step = (WIDTH - _LEFT + 10) / len(results)
    for turn, result in enumerate(results):
        x = _LEFT - 14 + turn * step
        is_chosen = result is analysis.recommended
        payload = result.payload[level]
        tall = payload.size_bytes * scale
        beside = result.cost.total_bytes * scale
        fade = "" if is_chosen else " faint"
        tip = f"{size_name(result.block_size)}: {format_size(result.store_bytes(level))}"
        width = step - 12
        drawing.rect(x, bottom - tall, width, tall, kind=f"c1{fade}", tip=tip)
        drawing.rect(x, bottom - tall - beside, width, beside, kind=f"c2{fade}", tip=tip)
        middle, y = x + width / 2, bottom - tall - beside
        error = (payload.error_bytes or 0) * scale
        if error > 1:
            drawing.line(middle, y - error, middle, min(bottom, y + error), kind="whisker")
        total = f"{result.store_bytes(level) / unit:.3g}"
        weight = "strong" if is_chosen else ""
        drawing.text(middle, y - error - 6, total, kind=weight, anchor="middle")
        name = size_name(result.block_size)
        drawing.text(middle, bottom + 18, name, kind=f"small {weight}", anchor="middle")
    drawing.text(WIDTH / 2, bottom + 38, "Block size", kind="soft", anchor="middle")
    _legend(drawing, 14, [("c1", f"blocks at zstd {level}"), ("c2", "index, maps and headers")])
    recommended = analysis.recommended
    return Section(
        f"In {size_name(recommended.block_size)} blocks, {format_size(analysis.total_bytes)} of "
        f"disks take {format_size(recommended.store_bytes(level))}",
        "What ebsim would store, by block size. The recommended size is solid. Thin lines: the "
        "sampling error of the compressed size, 95 of 100 samples.",
        drawing.markup(),
    )


def bytes_chart(analysis: Analysis) -> Section:
    """What becomes of the disks' bytes, by block size."""
    top, bar, gap = 30, 18, 7
    results = analysis.sizes
    drawing = Drawing(top + len(results) * (bar + gap) + 28, "What the disks are made of")
    kinds = [
        ("none", "zeros"),
        ("c5", "repeated within its image"),
        ("c3", "in another image too"),
        ("c1", "unique: stored"),
    ]
    _legend(drawing, 14, kinds, left=_LEFT)
    room = WIDTH - _LEFT - 4
    for turn, result in enumerate(results):
        y = top + turn * (bar + gap)
        drawing.text(_LEFT - 8, y + 13, size_name(result.block_size), anchor="end")
        parts = _byte_parts(result)
        total = max(1, sum(parts))
        x = float(_LEFT)
        for (kind, name), size_bytes in zip(kinds, parts, strict=True):
            width = room * size_bytes / total
            share = size_bytes / total
            drawing.rect(x, y, width, bar, kind=kind, tip=f"{name}: {format_size(size_bytes)}")
            if width > 34:
                ink = "small" if kind == "none" else "small inverse"
                drawing.text(x + width / 2, y + 13, f"{share:.0%}", kind=ink, anchor="middle")
            x += width
    y = top + len(results) * (bar + gap) + 14
    for share in (0, 0.25, 0.5, 0.75, 1):
        anchor = "end" if share == 1 else "middle"
        drawing.text(_LEFT + room * share, y, f"{share:.0%}", kind="soft small", anchor=anchor)
    small, large = (_unique_share(results[at]) for at in (0, -1))
    return Section(
        f"Unique bytes go from {small:.0%} of the disks in 4 KiB blocks to {large:.0%} in 4 MiB",
        "Share of the disks' bytes, by block size. The smaller a block, the likelier it is all "
        "zeros or found before.",
        drawing.markup(),
    )


def layout_chart(analysis: Analysis) -> Section:
    """Where on each disk its duplicates live."""
    layouts = analysis.layouts[:_STRIPS_MAX]
    strip, gap, left, top = (26, 8, 160, 34) if len(layouts) <= 20 else (14, 4, 160, 34)
    drawing = Drawing(top + len(layouts) * (strip + gap) + 24, "Where duplicates live")
    legend = [
        ("c3", "in another image too"),
        ("c5", "repeated here"),
        ("c1", "nowhere else"),
        ("none", "zeros"),
    ]
    _legend(drawing, 14, legend)
    longest = max(image.size_bytes for image in analysis.images)
    names = short_names(analysis)
    for turn, layout in enumerate(layouts):
        y = top + turn * (strip + gap)
        size_bytes = analysis.images[turn].size_bytes
        width = (WIDTH - left - 4) * size_bytes / longest
        drawing.text(left - 8, y + strip / 2 + 4, names[turn], anchor="end", kind="small")
        drawing.rect(left, y, width, strip, kind="none")
        _strip(drawing, layout, size_bytes, (left, y, width, strip))
    y = top + len(layouts) * (strip + gap) + 12
    for share in (0, 0.25, 0.5, 0.75, 1):
        at = left + (WIDTH - left - 4) * share
        anchor = "end" if share == 1 else "middle"
        drawing.text(at, y, format_size(round(longest * share)), kind="soft small", anchor=anchor)
    hidden = len(analysis.layouts) - len(layouts)
    more = f" {hidden} more images are not shown." if hidden else ""
    shared = sum(int(layout.counts[:, SHARED].sum()) for layout in analysis.layouts)
    present = sum(int(layout.counts.sum()) for layout in analysis.layouts)
    size = size_name(analysis.recommendation.block_size)
    return Section(
        f"{percent(shared / max(1, present))} of all blocks with data are in another image too",
        f"Each strip is a disk from its first byte to its last, in {size} blocks; the height of a "
        f"colour is its share of the blocks there.{more}",
        drawing.markup(),
    )


def _strip(
    drawing: Drawing, layout: Layout, size_bytes: int, place: tuple[float, float, float, float]
) -> None:
    left, top, width, height = place
    bin_width = width * layout.bin_blocks * layout.block_size / max(1, size_bytes)
    base = np.zeros(len(layout.counts))
    for kind, column in (("c3", SHARED), ("c5", REPEATED), ("c1", SINGLE)):
        tall = layout.counts[:, column] / layout.bin_blocks * height
        bars = []
        for turn in np.flatnonzero(tall).tolist():
            x = left + turn * bin_width
            y = top + height - base[turn] - tall[turn]
            bars.append((x, y, min(bin_width, left + width - x), float(tall[turn])))
        drawing.columns(bars, kind=kind)
        base += tall


def overlap_chart(analysis: Analysis) -> Section:
    """How much every two images have in common."""
    count = min(len(analysis.images), _HEAT_MAX)
    counts = analysis.recommended.sharing.shared_counts[:count, :count]
    names = short_names(analysis)[:count]
    left, top = 170, 96 if count <= _NUMBERED_MAX else 30
    # The last name of the top rises beyond its column.
    cell = min(56.0, (WIDTH - left - (120 if count <= _NUMBERED_MAX else 20)) / count)
    drawing = Drawing(top + count * cell + 30, "Overlap between images")
    for row in range(count):
        own = max(1, int(counts[row, row]))
        y = top + row * cell
        if cell >= 10:
            drawing.text(left - 8, y + cell / 2 + 4, names[row], anchor="end", kind="small")
        for column in range(count):
            share = counts[row, column] / own
            x = left + column * cell
            tip = f"{share:.0%} of {names[row]} is in {names[column]} too"
            _heat_cell(drawing, (x, y, cell), float(share), tip)
    if count <= _NUMBERED_MAX:
        for column, name in enumerate(names):
            drawing.slanted(left + (column + 0.5) * cell, top - 8, name, anchor="start")
    for turn in range(11):
        x = left + turn * 22
        _heat_cell(drawing, (x, top + count * cell + 10, 18), turn / 10, "", height=10)
    y = top + count * cell + 19
    drawing.text(left - 8, y, "0 % in common", anchor="end", kind="soft small")
    drawing.text(left + 11 * 22 + 4, y, "100 %", kind="soft small")
    apart = ~np.eye(count, dtype=bool)
    shares = (counts / np.maximum(1, np.diagonal(counts))[:, None])[apart]
    mean = percent(float(shares.mean())) if shares.size else "0%"
    hidden = len(analysis.images) - count
    more = f" {hidden} more images are not shown." if hidden else ""
    size = size_name(analysis.recommendation.block_size)
    return Section(
        f"On average, {mean} of an image's different blocks are in any other one",
        f"How much of the image at the left is in the image at the top, in {size} blocks; zeros "
        f"do not count.{more}",
        drawing.markup(),
    )


def _heat_cell(
    drawing: Drawing,
    place: tuple[float, float, float],
    share: float,
    tip: str,
    *,
    height: float | None = None,
) -> None:
    x, y, cell = place
    tall = cell if height is None else height
    drawing.rect(x, y, cell - 1, tall - 1, kind="none", tip=tip)
    drawing.shade(x, y, cell - 1, tall - 1, share=share, tip=tip)
    if height is None and cell >= 30:
        kind = "small inverse" if share > 0.55 else "small"
        drawing.text(x + cell / 2, y + cell / 2 + 4, f"{share:.0%}", kind=kind, anchor="middle")


def growth_chart(analysis: Analysis) -> Section:
    """How a store grows as the images come in, one after the other."""
    level = analysis.levels[0]
    lines = []
    full = np.cumsum([image.size_bytes for image in analysis.images])
    shown = [s for s in analysis.sizes if s.block_size in _SIZES_SHOWN]
    if analysis.recommended not in shown:
        shown.append(analysis.recommended)
    for turn, result in enumerate(sorted(shown, key=lambda each: each.block_size)):
        distinct = max(1, result.sharing.distinct_count)
        a_block = result.store_bytes(level) / distinct
        grown = np.cumsum(result.sharing.added_counts) * a_block
        kind = f"c{turn % 6 + 1}"
        lines.append(Line(size_name(result.block_size), kind, [float(each) for each in grown]))
    svg = line_chart(lines, short_names(analysis), label="Growth of the store")
    recommended = analysis.recommended
    share = recommended.store_bytes(level) / max(1, int(full[-1]))
    many = len(analysis.images)
    images = "1 image takes" if many == 1 else f"{many} images take"
    return Section(
        f"{images} {format_size(recommended.store_bytes(level))}: "
        f"{percent(share)} of their {format_size(int(full[-1]))}",
        f"What the store holds after each image, by block size, at zstd {level}. Every line "
        "begins with the first image; what it rises by is what the next one adds.",
        svg,
    )


def changes_chart(analysis: Analysis) -> Section:
    """What changed between neighbours, in bytes and in the blocks that hold them."""
    changes = analysis.changes
    lines = [Line("bytes that differ", "c6", [float(c.differing_bytes) for c in changes])]
    lines += [
        Line(
            f"in {size_name(size)}", f"c{turn + 1}", [c.block_counts[size] * size for c in changes]
        )
        for turn, size in enumerate(_SIZES_SHOWN)
    ]
    by_name = dict(zip([i.name for i in analysis.images], short_names(analysis), strict=True))
    svg = line_chart(
        lines, [by_name[c.second] for c in changes], label="Changes", is_logarithmic=True
    )
    truly = sum(c.differing_bytes for c in changes)
    size = analysis.recommendation.block_size
    held = sum(c.block_counts[size] * size for c in changes)
    return Section(
        f"{format_size(truly)} changed between neighbours: {format_size(held)} in blocks of "
        f"{size_name(size)}",
        "For each image, what differs from the one before it: the bytes themselves, and the "
        "blocks that hold them. The scale is logarithmic.",
        svg,
    )


def _byte_parts(result: SizeResult) -> list[int]:
    return [
        result.zero_bytes,
        result.repeated_within_bytes,
        result.repeated_across_bytes,
        result.unique_bytes,
    ]


def _unique_share(result: SizeResult) -> float:
    return result.unique_bytes / max(1, sum(_byte_parts(result)))


def _legend(
    drawing: Drawing, y: float, entries: Sequence[tuple[str, str]], *, left: float | None = None
) -> None:
    """The colours and their names in a row; at the right end unless *left* is given."""
    widths = [20 + 7.2 * len(name) + 14 for _, name in entries]
    x = WIDTH - sum(widths) if left is None else left
    for (kind, name), width in zip(entries, widths, strict=True):
        drawing.rect(x, y - 10, 12, 12, kind=kind)
        drawing.text(x + 17, y, name)
        x += width
