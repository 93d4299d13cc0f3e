"""Content-defined chunks beside blocks of a fixed size: a chart, and rows of a table.

Both are compared as a store with a list for each image would keep them, without compression:
how well chunks compress is not sampled.
"""

from collections.abc import Sequence

from ebsim.analysis.block_digests import size_name
from ebsim.analysis.page import PageTable, Section
from ebsim.analysis.results import Analysis
from ebsim.analysis.svg import WIDTH, Drawing
from ebsim.units import format_size

CHUNKING_HEADERS = (
    "Cut",
    "Mean size",
    "Pieces",
    "Different",
    "Zeros",
    "Repeated within",
    "Repeated across",
    "Unique",
    "Index, lists",
    "Store uncompressed",
)

_LEFT = 150


def chunking_rows(analysis: Analysis) -> list[list[str]]:
    """For each average its chunks, and below them blocks of the same fixed size."""
    rows = []
    for chunked in analysis.chunked:
        fixed = analysis.size_result(chunked.average_size)
        name = size_name(chunked.average_size)
        rows.append(
            [
                f"{name} by content",
                format_size(chunked.mean_size),
                f"{chunked.chunk_count:,}",
                f"{chunked.distinct_count:,}",
                format_size(chunked.zero_bytes),
                format_size(chunked.repeated_within_bytes),
                format_size(chunked.repeated_across_bytes),
                format_size(chunked.unique_bytes),
                format_size(chunked.cost.list_total_bytes),
                format_size(chunked.uncompressed_bytes),
            ]
        )
        rows.append(
            [
                f"{name} fixed",
                format_size(fixed.block_size),
                f"{fixed.sharing.block_count:,}",
                f"{fixed.sharing.distinct_count:,}",
                format_size(fixed.zero_bytes),
                format_size(fixed.repeated_within_bytes),
                format_size(fixed.repeated_across_bytes),
                format_size(fixed.unique_bytes),
                format_size(fixed.cost.list_total_bytes),
                format_size(fixed.unique_bytes + fixed.cost.list_total_bytes),
            ]
        )
    return rows


def chunking_table(analysis: Analysis) -> PageTable:
    """The rows as a table of the page."""
    return PageTable(
        "Cut by content and at fixed places", CHUNKING_HEADERS, chunking_rows(analysis)
    )


def chunking_chart(analysis: Analysis) -> Section:
    """What the different pieces take, cut either way."""
    bars: list[tuple[str, str, int]] = []
    for chunked in analysis.chunked:
        name = size_name(chunked.average_size)
        fixed = analysis.size_result(chunked.average_size)
        bars.append((f"{name} by content", "c3", chunked.unique_bytes))
        bars.append((f"{name} fixed", "c1", fixed.unique_bytes))
    top, bar, gap = 8, 20, 4
    drawing = Drawing(top + len(bars) * (bar + gap) + 8 * len(analysis.chunked), "Unique bytes")
    greatest = max(1, *(size_bytes for _, _, size_bytes in bars))
    for turn, (name, kind, size_bytes) in enumerate(bars):
        y = top + turn * (bar + gap) + turn // 2 * 8
        width = (WIDTH - _LEFT - 90) * size_bytes / greatest
        drawing.text(_LEFT - 8, y + 14, name, anchor="end")
        drawing.rect(_LEFT, y, width, bar, kind=kind, tip=f"{name}: {format_size(size_bytes)}")
        drawing.text(_LEFT + width + 6, y + 14, format_size(size_bytes))
    return Section(
        _title([size_bytes for _, _, size_bytes in bars]),
        "Unique bytes, not compressed, in chunks cut by content (FastCDC) and in blocks of a "
        "fixed size. Zeros are not counted.",
        drawing.markup(),
    )


def _title(unique_bytes: Sequence[int]) -> str:
    by_content, fixed = unique_bytes[0], unique_bytes[1]
    if by_content == fixed:
        return "Cut by content at 64 KiB, as much is unique as in fixed blocks"
    share = abs(by_content / fixed - 1) if fixed else 1
    word = "less" if by_content < fixed else "more"
    return f"Cut by content at 64 KiB, {share:.1%} {word} is unique than in fixed blocks"
