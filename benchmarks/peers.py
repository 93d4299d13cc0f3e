"""Ebsim beside the other tools that are installed, on the same images in one run.

    python -m benchmarks.peers [--dir DIR] [--images root,data] [--runs 3]

Steps, in order, each timed until the file system is synced:

    first      a disk image into an empty store
    unchanged  the same bytes again; the file's times are new, as after any use of a disk
    changed    the image after packages were installed, or after the database was used
    second     another disk into the same store
    restore    the changed one to a new file; compared byte for byte afterwards
    delete     the first two states; their space has to come back

Writes ``results/peers.json`` and a chart for each set of images; a set that is not measured
again stays as it is.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.images import DEFAULT_FOLDER, SMALL, Images, Sizes, describe_image, make_images
from benchmarks.peer_chart import write_chart
from benchmarks.peer_results import PeerRun, Sample, peer_markdown, write_peer_run
from benchmarks.peer_tools import Command, Tool, installed_tools, tool_version
from benchmarks.processes import (
    Usage,
    allocated_bytes,
    run_measured,
    sync_file_system,
    use_two_processors,
)
from benchmarks.results import RESULTS, commit, machine
from benchmarks.scratch import scratch_folder


@dataclass(frozen=True, slots=True)
class ImageSet:
    """A disk before and after a change, and another disk."""

    name: str
    title: str
    before: Path
    after: Path
    other: Path


def image_sets(images: Images) -> dict[str, ImageSet]:
    """The sets, by name."""
    root, data = (
        (images.root_before, images.root_after),
        (images.data_before, images.data_after),
    )
    return {
        "root": ImageSet(
            "root", "A root file system, before and after packages were installed", *root, data[0]
        ),
        "data": ImageSet("data", "A database volume, before and after its use", *data, root[1]),
    }


class Trial:
    """One tool, taken through all the steps once."""

    def __init__(self, tool: Tool, images: ImageSet, folder: Path) -> None:
        self._tool = tool
        self._images = images
        self._folder = folder
        self._disk = folder / "disk.img"
        self._other = folder / "other.img"
        self.samples: list[Sample] = []

    def run(self) -> list[Sample]:
        """Go through the steps; return what each took."""
        tool, steps = self._tool, self._images
        tool.store.parent.mkdir()
        self._measured(tool.set_up())
        self._save("first", steps.before, self._disk)
        self._save("unchanged", steps.before, self._disk)
        self._save("changed", steps.after, self._disk)
        self._save("second", steps.other, self._other)
        self._restore("changed", steps.after)
        self._step("delete", tool.remove(["first", "unchanged"], ["changed", "second"]))
        return self.samples

    def _measured(
        self, commands: Sequence[Command], folder: Path | None = None
    ) -> tuple[Usage, str]:
        usage, printed = Usage(0.0, 0.0, 0), ""
        for command in commands:
            used, output = run_measured(
                command, environment=self._tool.environment(), folder=folder
            )
            usage, printed = usage + used, printed + output
        return usage, printed

    def _step(self, step: str, commands: Sequence[Command], folder: Path | None = None) -> str:
        """Run one step's *commands*, up to the sync of the file system that all share."""
        sync_file_system(self._folder)
        usage, printed = self._measured(commands, folder)
        usage += Usage(sync_file_system(self._folder), 0.0, 0)
        self.samples.append(
            Sample(
                self._images.name,
                self._tool.name,
                step,
                usage.wall_seconds,
                usage.processor_seconds,
                usage.peak_bytes,
                allocated_bytes(self._tool.store),
            )
        )
        return printed

    def _save(self, label: str, image: Path, place: Path) -> None:
        """Put *image* at *place*, where the tool finds the disk, and save it."""
        place.unlink(missing_ok=True)
        os.link(image, place)
        os.utime(place)
        subprocess.run(["cat", place], check=True, stdout=subprocess.DEVNULL)
        printed = self._step(label, self._tool.save(place, label))
        self._tool.note_saved(label, printed)

    def _restore(self, label: str, expected: Path) -> None:
        target = self._folder / "target"
        target.mkdir()
        self._step("restore", self._tool.restore(label, target), target)
        restored = self._tool.restored_path(self._disk, target)
        subprocess.run(["cmp", restored, expected], check=True)
        restored.unlink()


def measure_peers(
    images: ImageSet, folder: Path, runs: int, names: Sequence[str] | None = None
) -> tuple[list[Sample], dict[str, str]]:
    """Take every tool through the steps *runs* times; return the samples, and how each is used.

    *names* are the tools to take, all that are installed by default.  They take turns, so
    that a busy minute of the machine falls on all of them.
    """
    samples: list[Sample] = []
    how: dict[str, str] = {}
    for _ in range(runs):
        with scratch_folder(folder) as scratch:
            for tool in installed_tools(scratch):
                if names is not None and tool.name not in names:
                    continue
                print(f"{images.name}: {tool.name}", file=sys.stderr)
                how[tool.name] = tool.how
                with scratch_folder(scratch) as place:
                    samples += Trial(tool, images, place).run()
    return samples, how


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Measure ebsim beside other tools.")
    parser.add_argument("--dir", type=Path, default=DEFAULT_FOLDER, help="where images are kept")
    parser.add_argument("--small", action="store_true", help="small images, for trying")
    parser.add_argument("--images", default="root,data", help="which sets of images")
    parser.add_argument("--tools", help="which tools; default all that are installed")
    parser.add_argument("--runs", type=int, default=3, help="how often each tool is run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results go")
    options = parser.parse_args(arguments)
    use_two_processors()
    at_commit = commit()
    images = make_images(options.dir, SMALL if options.small else Sizes())
    sets = image_sets(images)
    chosen = [sets[name] for name in options.images.split(",")]
    samples: list[Sample] = []
    how: dict[str, str] = {}
    for each in chosen:
        tools = options.tools.split(",") if options.tools else None
        found, how = measure_peers(each, options.dir, options.runs, tools)
        samples += found
    paths = {path for each in chosen for path in (each.before, each.after, each.other)}
    run = PeerRun(
        machine(),
        at_commit,
        options.runs,
        {name: f"{tool_version(name)}: {text}" for name, text in how.items()},
        {each.name: each.title for each in chosen},
        {path.name: describe_image(path) for path in sorted(paths)},
        samples,
    )
    write_peer_run(options.results / "peers.json", run)
    for each in chosen:
        write_chart(options.results, run, each.name)
    print(peer_markdown(run))


if __name__ == "__main__":
    main(sys.argv[1:])
