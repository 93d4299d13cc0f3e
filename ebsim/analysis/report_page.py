"""An analysis as a page to look at."""

from ebsim.analysis.block_digests import size_name
from ebsim.analysis.charts import (
    bytes_chart,
    changes_chart,
    growth_chart,
    layout_chart,
    overlap_chart,
    short_names,
    store_size_chart,
)
from ebsim.analysis.chunking_report import chunking_chart, chunking_table
from ebsim.analysis.compression_estimate import Estimate
from ebsim.analysis.page import PageTable, html_page
from ebsim.analysis.results import Analysis
from ebsim.units import format_size


def report_page(analysis: Analysis) -> str:
    """*analysis* as one HTML file."""
    level = analysis.levels[0]
    recommended = analysis.recommended
    many = len(analysis.images)
    images = "1 image" if many == 1 else f"{many} images"
    share = recommended.store_bytes(level) / max(1, analysis.total_bytes)
    lead = (
        f"{format_size(analysis.total_bytes)} of disks would take "
        f"{format_size(recommended.store_bytes(level))} in blocks of "
        f"{size_name(recommended.block_size)}: {share:.1%}. {analysis.recommendation.reason}"
    )
    sections = [store_size_chart(analysis), bytes_chart(analysis), layout_chart(analysis)]
    if many > 1:
        sections += [overlap_chart(analysis), growth_chart(analysis)]
    if analysis.changes:
        sections.append(changes_chart(analysis))
    tables = [_sizes_table(analysis), _images_table(analysis)]
    if analysis.chunked:
        sections.append(chunking_chart(analysis))
        tables.append(chunking_table(analysis))
    notes = [
        f"{format_size(analysis.hole_bytes)} are holes, known to be zeros without being read."
    ]
    notes += [f"Left out: {name}: {reason}" for name, reason in analysis.skipped.items()]
    return html_page(
        f"What deduplication saves on {images}",
        lead,
        sections,
        tables,
        notes=notes,
    )


def _sizes_table(analysis: Analysis) -> PageTable:
    level = analysis.levels[0]
    headers = [
        "Block size",
        "Zeros",
        "Repeated within",
        "Repeated across",
        "Unique",
        *(f"zstd {each}" for each in analysis.levels),
        "Index, maps",
        "Store",
        "Lists instead of maps",
    ]
    rows = [
        [
            size_name(result.block_size),
            format_size(result.zero_bytes),
            format_size(result.repeated_within_bytes),
            format_size(result.repeated_across_bytes),
            format_size(result.unique_bytes),
            *(estimate_text(result.payload[each]) for each in analysis.levels),
            format_size(result.cost.total_bytes),
            format_size(result.store_bytes(level)),
            format_size(result.payload[level].size_bytes + result.cost.list_total_bytes),
        ]
        for result in analysis.sizes
    ]
    chosen = [result.block_size for result in analysis.sizes].index(
        analysis.recommendation.block_size
    )
    return PageTable("Block sizes side by side", headers, rows, chosen)


def _images_table(analysis: Analysis) -> PageTable:
    sharing = analysis.recommended.sharing
    size = analysis.recommendation.block_size
    rows = [
        [
            name,
            format_size(image.size_bytes),
            format_size(int(sharing.block_counts[place]) * size),
            format_size(int(sharing.distinct_counts[place]) * size),
            format_size(int(sharing.added_counts[place]) * size),
            format_size(int(sharing.alone_counts[place]) * size),
        ]
        for place, (name, image) in enumerate(
            zip(short_names(analysis), analysis.images, strict=True)
        )
    ]
    headers = ["Image", "Disk", "Not zeros", "Different", "New when it comes", "In no other"]
    return PageTable(f"The images, in blocks of {size_name(size)}", headers, rows)


def estimate_text(estimate: Estimate) -> str:
    """An estimated size, and how far off it may be."""
    size = format_size(estimate.size_bytes)
    if estimate.error_bytes is None:
        return f"{size} ±?"
    if estimate.error_bytes == 0:
        return size
    return f"{size} ±{estimate.error_bytes / max(1, estimate.size_bytes):.0%}"
