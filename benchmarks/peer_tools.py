"""The tools that ebsim is measured beside, each as its users run it, with fair options.

What is made equal: two processors, a block of 512 KiB wherever a tool has fixed blocks, no
encryption where that can be left out, and space really given back after a deletion.  What
each tool does otherwise is its own choice, and its name in the tables says it.
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.processes import ebsim_command
from benchmarks.results import PROJECT
from ebsim import __version__

Command = Sequence[str | Path]

_BLOCK_SIZE = "524288"

# It writes as it likes: the step ends with a sync anyway.
_REBASE = ["qemu-img", "rebase", "-t", "unsafe", "-f", "qcow2"]


class Tool(Protocol):
    """A tool with a store of its own.  Saved states are named by labels."""

    name: str
    how: str
    """Which commands and options: a sentence for the README."""
    store: Path

    def environment(self) -> Mapping[str, str]:
        """Variables that its commands need."""

    def set_up(self) -> list[Command]:
        """Make the store."""

    def save(self, image: Path, label: str) -> list[Command]:
        """Save the image as it is now."""

    def note_saved(self, label: str, output: str) -> None:
        """Learn from what saving printed."""

    def restore(self, label: str, folder: Path) -> list[Command]:
        """Bring a saved image back, into *folder*, where the commands run."""

    def restored_path(self, image: Path, folder: Path) -> Path:
        """Where ``restore`` puts *image*."""

    def remove(self, labels: Sequence[str], kept: Sequence[str]) -> list[Command]:
        """Delete the oldest states, and give their space back; *kept* are the others, in order."""


class Ebsim:
    """This project."""

    def __init__(self, folder: Path) -> None:
        self.name = "ebsim"
        self.how = "`snapshot create`, `restore`, `snapshot rm`; blocks of 512 KiB, zstd 1"
        self.store = folder / "store"
        self._ids: dict[str, str] = {}

    def environment(self) -> Mapping[str, str]:
        # Commands run in other folders, where this project is not.
        return {"PYTHONPATH": str(PROJECT)}

    def set_up(self) -> list[Command]:
        return []

    def save(self, image: Path, label: str) -> list[Command]:
        del label
        return [ebsim_command(self.store, "snapshot", "create", image)]

    def note_saved(self, label: str, output: str) -> None:
        self._ids[label] = output.split()[0]

    def restore(self, label: str, folder: Path) -> list[Command]:
        return [ebsim_command(self.store, "restore", self._ids[label], folder / "restored.img")]

    def restored_path(self, image: Path, folder: Path) -> Path:
        del image
        return folder / "restored.img"

    def remove(self, labels: Sequence[str], kept: Sequence[str]) -> list[Command]:
        del kept
        ids = [self._ids[label] for label in labels]
        return [ebsim_command(self.store, "snapshot", "rm", *ids)]


class Borg:
    """Borg 1, unencrypted, with its chunker for disk images."""

    def __init__(self, folder: Path, compression: str) -> None:
        self.name = f"borg {compression.replace(',', ' ')}"
        self.how = (
            f"`create --chunker-params fixed,{_BLOCK_SIZE} --compression {compression}`, "
            "`extract --sparse`, `delete` and `compact --threshold 0`; no encryption"
        )
        self.store = folder / "store"
        self._folder = folder
        self._compression = compression

    def environment(self) -> Mapping[str, str]:
        return {
            "BORG_BASE_DIR": str(self._folder / "base"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }

    def set_up(self) -> list[Command]:
        return [["borg", "init", "-e", "none", self.store]]

    def save(self, image: Path, label: str) -> list[Command]:
        chunker = ["--chunker-params", f"fixed,{_BLOCK_SIZE}", "--compression", self._compression]
        return [["borg", "create", *chunker, f"{self.store}::{label}", image]]

    def note_saved(self, label: str, output: str) -> None:
        """Archives have the names that they were given."""

    def restore(self, label: str, folder: Path) -> list[Command]:
        del folder
        return [["borg", "extract", "--sparse", f"{self.store}::{label}"]]

    def restored_path(self, image: Path, folder: Path) -> Path:
        return folder / image.relative_to("/")

    def remove(self, labels: Sequence[str], kept: Sequence[str]) -> list[Command]:
        del kept
        return [
            ["borg", "delete", f"{self.store}::{labels[0]}", *labels[1:]],
            ["borg", "compact", "--threshold", "0", self.store],
        ]


class Restic:
    """Restic, which always encrypts and chunks by content."""

    def __init__(self, folder: Path) -> None:
        self.name = "restic"
        self.how = (
            "`backup`, `restore`, `forget --prune --max-unused 0`; chunks by content, encrypted, "
            "both of which it always does"
        )
        self.store = folder / "store"
        self._folder = folder
        self._ids: dict[str, str] = {}

    def environment(self) -> Mapping[str, str]:
        return {
            "RESTIC_REPOSITORY": str(self.store),
            "RESTIC_PASSWORD": "benchmark",
            "RESTIC_CACHE_DIR": str(self._folder / "cache"),
        }

    def set_up(self) -> list[Command]:
        # Version 2 compresses; restic makes version 1 by default before 0.15.
        return [["restic", "init", "-q", "--repository-version", "2"]]

    def save(self, image: Path, label: str) -> list[Command]:
        del label
        return [["restic", "backup", image]]

    def note_saved(self, label: str, output: str) -> None:
        (line,) = (line for line in output.splitlines() if line.endswith(" saved"))
        self._ids[label] = line.split()[1]

    def restore(self, label: str, folder: Path) -> list[Command]:
        return [["restic", "restore", "-q", self._ids[label], "--target", folder]]

    def restored_path(self, image: Path, folder: Path) -> Path:
        return folder / image.relative_to("/")

    def remove(self, labels: Sequence[str], kept: Sequence[str]) -> list[Command]:
        del kept
        ids = [self._ids[label] for label in labels]
        return [["restic", "forget", "-q", *ids, "--prune", "--max-unused", "0"]]


class Casync:
    """Casync, with chunks of one size."""

    def __init__(self, folder: Path) -> None:
        self.name = "casync"
        self.how = (
            f"`make --chunk-size {_BLOCK_SIZE}:{_BLOCK_SIZE}:{_BLOCK_SIZE} --compression zstd`, "
            "`extract`, `gc`; it syncs nothing itself"
        )
        self.store = folder / "store"

    def environment(self) -> Mapping[str, str]:
        return {}

    def _index(self, label: str) -> Path:
        return self.store / f"{label}.caibx"

    @property
    def _chunks(self) -> str:
        return f"--store={self.store / 'chunks.castr'}"

    def set_up(self) -> list[Command]:
        return [["mkdir", self.store]]

    def save(self, image: Path, label: str) -> list[Command]:
        sizes = f"--chunk-size={_BLOCK_SIZE}:{_BLOCK_SIZE}:{_BLOCK_SIZE}"
        options = [self._chunks, sizes, "--compression=zstd"]
        return [["casync", "make", *options, self._index(label), image]]

    def note_saved(self, label: str, output: str) -> None:
        """Indexes have the names that they were given."""

    def restore(self, label: str, folder: Path) -> list[Command]:
        target = folder / "restored.img"
        return [["casync", "extract", self._chunks, self._index(label), target]]

    def restored_path(self, image: Path, folder: Path) -> Path:
        del image
        return folder / "restored.img"

    def remove(self, labels: Sequence[str], kept: Sequence[str]) -> list[Command]:
        gone = [self._index(label) for label in labels]
        indexes = [self._index(label) for label in kept]
        return [["rm", *gone], ["casync", "gc", self._chunks, *indexes]]


class QemuImg:
    """A chain of qcow2 images, each holding what differs from the one before it.

    Source:
        https://www.qemu.org/docs/master/tools/qemu-img.html, "rebase", for the difference
        of two images: an empty image over the new state, based anew on the old one.
    """

    def __init__(self, folder: Path, *, compress: bool) -> None:
        self.name = "qemu-img zstd" if compress else "qemu-img"
        self._options = ["-c", "-o", "compression_type=zstd"] if compress else []
        convert = " ".join(["convert", *self._options, "-O qcow2"])
        again = ", `convert -c` of that" if compress else ""
        self.how = (
            f"`{convert}` for the first; for a later one `create -b IMAGE` and "
            f"`rebase -b PREVIOUS`{again}; `convert -O raw`; `rebase -b ''` and removing the "
            "older files"
        )
        self.store = folder / "store"
        self._newest: dict[Path, Path] = {}

    def environment(self) -> Mapping[str, str]:
        return {}

    def _file(self, label: str) -> Path:
        return self.store / f"{label}.qcow2"

    def set_up(self) -> list[Command]:
        return [["mkdir", self.store]]

    def save(self, image: Path, label: str) -> list[Command]:
        parent, file = self._newest.get(image), self._file(label)
        self._newest[image] = file
        convert = ["qemu-img", "convert", "-O", "qcow2", *self._options]
        if parent is None:
            return [[*convert, "-f", "raw", image, file]]
        difference = file.with_suffix(".difference") if self._options else file
        commands: list[Command] = [
            ["qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "raw", difference],
            [*_REBASE, "-b", parent, "-F", "qcow2", difference],
        ]
        if self._options:
            # Rebase of this age does not compress.
            commands += [
                [*convert, "-B", parent, "-F", "qcow2", "-f", "qcow2", difference, file],
                ["rm", difference],
            ]
        return commands

    def note_saved(self, label: str, output: str) -> None:
        """Files have the names that they were given."""

    def restore(self, label: str, folder: Path) -> list[Command]:
        return [
            ["qemu-img", "convert", "-O", "raw", self._file(label), folder / "restored.img"],
        ]

    def restored_path(self, image: Path, folder: Path) -> Path:
        del image
        return folder / "restored.img"

    def remove(self, labels: Sequence[str], kept: Sequence[str]) -> list[Command]:
        # The next file takes in what it needs of the older ones, and stands alone.
        remove: Command = ["rm", *(self._file(label) for label in labels)]
        return [[*_REBASE, "-b", "", self._file(kept[0])], remove]


def installed_tools(folder: Path) -> list[Tool]:
    """Ebsim, and every other tool that is installed, with stores in *folder*."""
    tools: list[tuple[str, Tool]] = [
        ("borg", Borg(folder / "borg-lz4", "lz4")),
        ("borg", Borg(folder / "borg-zstd", "zstd,1")),
        ("restic", Restic(folder / "restic")),
        ("casync", Casync(folder / "casync")),
        ("qemu-img", QemuImg(folder / "qemu", compress=False)),
        ("qemu-img", QemuImg(folder / "qemu-zstd", compress=True)),
    ]
    found: list[Tool] = [Ebsim(folder / "ebsim")]
    return found + [tool for program, tool in tools if shutil.which(program)]


def tool_version(name: str) -> str:
    """The version of the program behind the tool *name*, as it prints it."""
    program = name.split()[0]
    if program == "ebsim":
        return f"ebsim {__version__}"
    words = [program, "version"] if program == "restic" else [program, "--version"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return " ".join(done.stdout.split("\n")[0].split("(")[0].split()[:3])
