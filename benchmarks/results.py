"""What was measured, as it is kept: one JSON file a benchmark, under ``results/``."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from ebsim.units import GIB, KIB

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
    """A benchmark's figures, and on what they were measured."""

    machine: Mapping[str, str]
    commit: str
    seed: int
    run_count: int
    figures: Sequence[Figure]
    images: Mapping[str, Detail] = field(default_factory=dict)


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
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model,
        "processors used": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_bytes / GIB:.1f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
    }


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


def write_run(path: Path, run: Run) -> None:
    """Write *run*, replacing the rows that the file has under the same keys.

    Rows measured before under another commit or on another machine are dropped: a file
    never mixes two.
    """
    kept: list[Figure] = []
    if path.exists():
        old = read_run(path)
        if (old.commit, old.machine, old.seed) == (run.commit, run.machine, run.seed):
            fresh = {figure.key for figure in run.figures}
            kept = [figure for figure in old.figures if figure.key not in fresh]
    document = asdict(run)
    document["figures"] = [asdict(figure) for figure in (*kept, *run.figures)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_run(path: Path) -> Run:
    """The run in *path*."""
    document = json.loads(path.read_text("utf-8"))
    figures = [Figure(**figure) for figure in document.pop("figures")]
    return Run(**document, figures=figures)


def peak_memory_bytes() -> int:
    """The most memory that this process had since ``forget_peak_memory``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KIB
    raise AssertionError("Linux tells the peak")


def forget_peak_memory() -> None:
    """Begin to count the peak anew."""
    Path("/proc/self/clear_refs").write_text("5")
