"""The commands by name, each loaded when it is used.

``ebsim --help`` and ``ebsim --version`` must answer at once, so they may import neither a
command's module nor what that imports (LMDB, zstd, the engine).  The one-line help of
every top-level command is therefore repeated here; a test compares it with the command's
own.
"""

from importlib import import_module
from typing import NamedTuple

import click


class LazyCommand(NamedTuple):
    """Where a top-level command is, and what ``ebsim --help`` says of it."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "demo": LazyCommand("ebsim.cli.demo", "demo", "Show the main job on a small disk."),
    "export": LazyCommand(
        "ebsim.cli.images", "export_image", "Write a snapshot to a qcow2, VMDK or other image."
    ),
    "import": LazyCommand(
        "ebsim.cli.images", "import_image", "Snapshot a qcow2, VMDK, VHD, VHDX or VDI image."
    ),
    "restore": LazyCommand(
        "ebsim.cli.restore", "restore", "Write a snapshot to a file or device."
    ),
    "snapshot": LazyCommand(
        "ebsim.cli.snapshot", "snapshot", "Take, list, compare, verify and delete snapshots."
    ),
    "store": LazyCommand("ebsim.cli.store", "store", "Measure, check, repair and compact."),
    "volume": LazyCommand("ebsim.cli.volume", "volume", "See which disks have snapshots."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by :data:`COMMANDS` until one is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        command = getattr(import_module(place.module), place.attribute)
        assert isinstance(command, click.Command), f"{place} is no command"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without loading any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in sorted(COMMANDS)])
