"""What was measured, as it is kept: one JSON file a table, under ``results/``.

A file is a list of runs, oldest first.  A run is the rows that were measured at one commit
on one machine; measuring a row again moves it from the run that it was in to a new one.  So
a small commit leaves the other rows standing, and each still says what it was measured at.
"""

import json
import os
import platform
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ebsim.units import GIB, KIB

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RESULTS = Path(__file__).parent / "results"
PROJECT = Path(__file__).parent.parent

Detail = Mapping[str, float | int | str]


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of a table, measured.

    Attributes:
        key: Which row.
        values: One a run; their median counts.
        reached: Whether the target is reached; ``None`` where the row has none.
        shown: The measured figure as a reader sees it.
        detail: What it was made of.
    """

    key: str
    values: Sequence[float]
    reached: bool | None
    shown: str
    detail: Detail = field(default_factory=dict)

    @property
    def spread(self) -> str:
        """The least and the greatest value; empty for a single one."""
        if len(self.values) < 2:
            return ""
        return f"{significant(min(self.values))} to {significant(max(self.values))}"


@dataclass(frozen=True, slots=True)
class Run:
    """Figures measured together, and what they hold for.

    Attributes:
        images: What was measured on, by name.
    """

    machine: Mapping[str, str]
    commit: str
    seed: int
    run_count: int
    figures: Sequence[Figure]
    images: Mapping[str, Detail] = field(default_factory=dict)

    def is_alike(self, other: "Run") -> bool:
        """Whether both hold for the same things, whatever their figures."""
        return replace(self, figures=()) == replace(other, figures=())

    def without(self, keys: Collection[str]) -> "Run":
        """The run without the rows of *keys*."""
        return replace(self, figures=[each for each in self.figures if each.key not in keys])


def significant(value: float) -> str:
    """*value* with three significant digits, and no exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2
    while abs(value) < 10 ** (1 - digits) and digits < 9:
        digits += 1
    return f"{value:.{1 if abs(value) >= 10 else digits}f}"


def ratio_figure(
    key: str, ratios: Sequence[float], least: float | None, detail: Detail | None = None
) -> Figure:
    """A row that is a share of a limit, to be *least* or more."""
    middle = median(ratios)
    reached = None if least is None else middle >= least
    return Figure(key, ratios, reached, f"{middle:.2f}", detail or {})


def machine() -> dict[str, str]:
    """What the figures depend on: processor, memory, system, versions."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    told = {name.strip(): text.strip() for name, _, text in lines}
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": told.get("model name", platform.machine()),
        "vectors": _vectors(told.get("flags", "").split()),
        "processors used": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_bytes / GIB:.1f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
    }


def _vectors(flags: Collection[str]) -> str:
    """The widest vectors of the processor: BLAKE3's speed is a matter of them."""
    known = {"avx512f": "AVX-512", "avx2": "AVX2", "sse4_1": "SSE4.1"}
    return next((name for flag, name in known.items() if flag in flags), "none that is known")


def commit() -> str:
    """The last commit of what is measured and what measures; says so if either has changed since.

    Committing results, or documents, makes no other code of it.
    """
    paths = ["--", "ebsim/*.py", "benchmarks/*.py"]
    try:
        head = _git("log", "-1", "--format=%h", "--abbrev=12", *paths).strip()
        changes = _git("status", "--porcelain", *paths)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} with changes" if changes else head


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=PROJECT, check=True, capture_output=True, text=True
    ).stdout


def short_commit(name: str) -> str:
    """*name*, which ``commit`` gave, as a table has room for it."""
    hash_text, space, rest = name.partition(" ")
    return f"{hash_text[:8]}{space}{rest}"


def write_run(path: Path, run: Run) -> None:
    """Add *run* to those in *path*: its rows take the place of older ones of the same keys."""
    fresh = {figure.key for figure in run.figures}
    older = [old.without(fresh) for old in (read_runs(path) if path.exists() else [])]
    # Alike, and so one: rows are measured, and written, a few at a time.
    before = [figure for old in older if old.is_alike(run) for figure in old.figures]
    kept = [old for old in older if old.figures and not old.is_alike(run)]
    write_documents(path, [*kept, replace(run, figures=[*before, *run.figures])])


def read_runs(path: Path) -> list[Run]:
    """The runs in *path*, newest last."""
    return [
        Run(**{**document, "figures": [Figure(**figure) for figure in document["figures"]]})
        for document in read_documents(path)
    ]


def write_documents(path: Path, runs: Sequence["DataclassInstance"]) -> None:
    """Replace *path* by *runs*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"runs": [asdict(run) for run in runs]}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_documents(path: Path) -> list[dict[str, Any]]:
    """What ``write_documents`` wrote."""
    documents: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["runs"]
    return documents


def peak_memory_bytes() -> int:
    """The most memory that this process had since ``forget_peak_memory``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KIB
    raise AssertionError("Linux tells the peak")


def forget_peak_memory() -> None:
    """Begin to count the peak anew."""
    Path("/proc/self/clear_refs").write_text("5")
