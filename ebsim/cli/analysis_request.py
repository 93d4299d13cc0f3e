"""What ``ebsim analyze`` is asked for: its options, as they are named on the command line."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisRequest:
    """The options of ``ebsim analyze``."""

    images: tuple[str, ...]
    store: bool
    series: bool
    levels: tuple[int, ...]
    image_format: str | None
    allow_backing_file: bool
    compress_all: bool
    keep_going: bool
    cdc: bool
    executor: str | None
    parts: Path | None
    parquet: Path | None
    html: Path | None
