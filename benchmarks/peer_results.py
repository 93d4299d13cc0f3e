"""What the tools took, step by step, and the tables made of it.

All tools on one set of images belong together: measured on the same machine, one after the
other.  So a set is replaced as a whole, and the sets of a file may be of different commits.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks.markdown import markdown_table
from benchmarks.results import (
    Detail,
    read_documents,
    short_commit,
    significant,
    write_documents,
)
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
    """All tools on some sets of images, at one commit and on one machine.

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

    def without(self, names: Collection[str]) -> "PeerRun":
        """The run without the sets of images called *names*."""
        return replace(
            self,
            image_sets={n: title for n, title in self.image_sets.items() if n not in names},
            samples=[each for each in self.samples if each.image_set not in names],
        )


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
    """Add *run* to those in *path*: its sets of images take the place of older ones."""
    older = [
        old.without(run.image_sets) for old in (read_peer_runs(path) if path.exists() else [])
    ]
    write_documents(path, [*(old for old in older if old.image_sets), run])


def read_peer_runs(path: Path) -> list[PeerRun]:
    """The runs in *path*, newest last."""
    return [
        PeerRun(**{**document, "samples": [Sample(**each) for each in document["samples"]]})
        for document in read_documents(path)
    ]


def peer_markdown(run: PeerRun) -> str:
    """A table a measure for each set of images, and what they were made with."""
    parts = []
    for name, title in run.image_sets.items():
        parts.append(f"**{title}**")
        parts += [_table(run, name, measure) for measure in MEASURES]
    parts.append("\n".join(f"- {name}: {how}" for name, how in run.tools.items()))
    facts = ", ".join(f"{name}: {value}" for name, value in run.machine.items())
    parts.append(
        f"Medians of {run.run_count}, each row at commit {short_commit(run.commit)}; {facts}."
    )
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
