"""Running an analysis and printing what it found."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import SystemRandom

from ebsim.analysis.analyze_images import AnalysisOptions, analyze_images
from ebsim.analysis.block_digests import size_name
from ebsim.analysis.chunking_report import CHUNKING_HEADERS, chunking_rows
from ebsim.analysis.document import analysis_document
from ebsim.analysis.executors import workers_at
from ebsim.analysis.fingerprint_file import write_fingerprints
from ebsim.analysis.image_list import ImageList, is_snapshot_name
from ebsim.analysis.images import Image
from ebsim.analysis.report_page import estimate_text, report_page
from ebsim.analysis.results import Analysis
from ebsim.cli.analysis_request import AnalysisRequest
from ebsim.cli.messages import printable, say
from ebsim.cli.opened_region import opened_region
from ebsim.cli.output import Column, print_json, print_table
from ebsim.cli.settings import Settings
from ebsim.durable_files import Files, write_atomically
from ebsim.errors import TargetUnusable
from ebsim.units import format_size


def run_analysis(settings: Settings, request: AnalysisRequest) -> None:
    """Analyse what *request* names and print it.

    Raises:
        SourceUnusable, NotFound, ...: as ``analyze_images`` and ``ImageList``.
    """
    for target in (request.parquet, request.html):
        _require_folder(target)
    found = ImageList(keep_going=request.keep_going)
    found.add_files(
        [name for name in request.images if not is_snapshot_name(name)],
        image_format=request.image_format,
        allow_backing_file=request.allow_backing_file,
        is_series=request.series,
    )
    snapshots = [name for name in request.images if is_snapshot_name(name)]
    if request.store or snapshots:
        with opened_region(settings) as region:
            found.add_snapshots(region, None if request.store else snapshots)
    options = AnalysisOptions(
        levels=tuple(dict.fromkeys(request.levels)),
        parts=request.parts,
        compress_all=request.compress_all,
        keep_going=request.keep_going,
        cdc=request.cdc,
        run=f"{SystemRandom().getrandbits(64):x}",
    )

    def export(images: Sequence[Image], image_parts: Sequence[Sequence[Path]]) -> None:
        if request.parquet is not None:
            write_fingerprints(request.parquet, images, image_parts)

    with ExitStack() as stack:
        if request.executor is not None:
            options = replace(options, workers=stack.enter_context(workers_at(request.executor)))
        progress = stack.enter_context(settings.watching())
        analysis = analyze_images(found.images, options, progress=progress, then=export)
    analysis = replace(analysis, skipped={**found.skipped, **analysis.skipped})
    for name, reason in analysis.skipped.items():
        say(f"left out {printable(name)}: {reason}")
    if request.html is not None:
        write_atomically(Files(), request.html, report_page(analysis).encode())
    if settings.wants_json:
        print_json(analysis_document(analysis))
    else:
        _print_tables(analysis)


def _require_folder(target: Path | None) -> None:
    """Refuse a report that could not be written, before the work and not after it."""
    if target is not None and (target.is_dir() or not target.parent.is_dir()):
        raise TargetUnusable(
            f"{target} cannot be written: it is a folder, or lies in none. Nothing was analysed."
        )


def _print_tables(analysis: Analysis) -> None:
    level = analysis.levels[0]
    _print_sizes(analysis)
    if analysis.changes:
        _print_changes(analysis)
    if analysis.chunked:
        _print_chunking(analysis)
    holes = format_size(analysis.hole_bytes)
    recommended = analysis.recommended
    share = recommended.store_bytes(level) / max(1, analysis.total_bytes)
    say(
        f"{len(analysis.images)} images of {format_size(analysis.total_bytes)}, {holes} of it "
        f"holes. Recommended: {size_name(recommended.block_size)} blocks, "
        f"{share:.1%} of the disks. {analysis.recommendation.reason}"
    )


def _print_sizes(analysis: Analysis) -> None:
    columns = [
        Column("BLOCK", is_number=True),
        Column("ZEROS", is_number=True),
        Column("REPEATED WITHIN", is_number=True),
        Column("REPEATED ACROSS", is_number=True),
        Column("UNIQUE", is_number=True),
        *(Column(f"ZSTD {level}", is_number=True) for level in analysis.levels),
        Column("INDEX AND MAPS", is_number=True),
        Column("STORE", is_number=True),
        Column("LISTS INSTEAD", is_number=True),
    ]
    level = analysis.levels[0]
    rows = []
    for result in analysis.sizes:
        with_lists = result.payload[level].size_bytes + result.cost.list_total_bytes
        rows.append(
            [
                size_name(result.block_size),
                format_size(result.zero_bytes),
                format_size(result.repeated_within_bytes),
                format_size(result.repeated_across_bytes),
                format_size(result.unique_bytes),
                *(estimate_text(result.payload[level]) for level in analysis.levels),
                format_size(result.cost.total_bytes),
                format_size(result.store_bytes(level)),
                format_size(with_lists),
            ]
        )
    print_table(columns, rows)


def _print_chunking(analysis: Analysis) -> None:
    columns = [Column(header.upper(), is_number=True) for header in CHUNKING_HEADERS]
    print_table(columns, chunking_rows(analysis))


def _print_changes(analysis: Analysis) -> None:
    sizes = [result.block_size for result in analysis.sizes]
    columns = [
        Column("BYTES CHANGED", is_number=True),
        *(Column(f"IN {size_name(size)}", is_number=True) for size in sizes),
        Column("FROM"),
        Column("TO"),
    ]
    rows = [
        [
            format_size(change.differing_bytes),
            *(str(change.block_counts[size]) for size in sizes),
            change.first,
            change.second,
        ]
        for change in analysis.changes
    ]
    print_table(columns, rows)
