"""What the tools took, step by step, and the tables made of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.markdown import markdown_table
from benchmarks.results import Detail, significant
from ebsim.units import MIB

STEPS = ("first", "unchanged", "changed", "second", "restore", "delete")


@dataclass(frozen=True, slots=True)
class Sample:
    """One step of one tool, once; ``store_bytes`` is what its store occupied afterwards."""

    image_set: str
    tool: str
    step: str
    wall_seconds: float
    processor_seconds: float
    peak_bytes: int
    store_bytes: int


@dataclass(frozen=True, slots=True)
class PeerRun:
    """All tools on all sets of images.

    Attributes:
        tools: By name, version and how it is used.
        image_sets: By name, what the images are.
        images: By file name, size and digest.
    """

    machine: Mapping[str, str]
    commit: str
    run_count: int
    tools: Mapping[str, str]
    image_sets: Mapping[str, str]
    images: Mapping[str, Detail]
    samples: Sequence[Sample]

    def values(self, image_set: str, tool: str, step: str, measure: "Measure") -> list[float]:
        """What *measure* says of the samples of one step of one tool."""
        wanted = (image_set, tool, step)
        return [
            measure.value(sample)
            for sample in self.samples
            if (sample.image_set, sample.tool, sample.step) == wanted
        ]


@dataclass(frozen=True, slots=True)
class Measure:
    """One of the four things that are measured in each step."""

    key: str
    title: str
    value: Callable[[Sample], float]


MEASURES = (
    Measure("wall", "wall seconds", lambda sample: sample.wall_seconds),
    Measure("processor", "processor seconds", lambda sample: sample.processor_seconds),
    Measure("memory", "peak memory, MiB", lambda sample: sample.peak_bytes / MIB),
    Measure("store", "store size afterwards, MiB", lambda sample: sample.store_bytes / MIB),
)


def write_peer_run(path: Path, run: PeerRun) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(run), indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_peer_run(path: Path) -> PeerRun:
    document = json.loads(path.read_text("utf-8"))
    samples = [Sample(**sample) for sample in document.pop("samples")]
    return PeerRun(**document, samples=samples)


def peer_markdown(run: PeerRun) -> str:
    """A table a measure for each set of images, and what they were made with."""
    parts = []
    for name, title in run.image_sets.items():
        parts.append(f"**{title}**")
        parts += [_table(run, name, measure) for measure in MEASURES]
    parts.append("\n".join(f"- {name}: {how}" for name, how in run.tools.items()))
    facts = ", ".join(f"{name}: {value}" for name, value in run.machine.items())
    parts.append(f"Medians of {run.run_count}, at commit {run.commit}; {facts}.")
    return "\n\n".join(parts)


def _table(run: PeerRun, image_set: str, measure: Measure) -> str:
    """Steps down, tools across; the last column says how far ebsim is ahead of the best."""
    tools = list(run.tools)
    rows = []
    for step in STEPS:
        medians = {
            tool: median(values)
            for tool in tools
            if (values := run.values(image_set, tool, step, measure))
        }
        cells = [significant(medians[tool]) if tool in medians else "" for tool in tools]
        rows.append([measure.title, step, *cells, _lead(medians)])
    return markdown_table(["measure", "step", *tools, "best other / ebsim"], rows)


def _lead(medians: Mapping[str, float]) -> str:
    others = [value for tool, value in medians.items() if tool != "ebsim"]
    if "ebsim" not in medians or not others:
        return ""
    return f"{min(others) / medians['ebsim']:.2f}"
