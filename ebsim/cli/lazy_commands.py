"""Groups that know their commands by name and load each when it is used.

``ebsim --help`` and ``ebsim --version`` must answer at once, so they may import neither a
command's module nor what that imports (LMDB, zstd, the engine); and a command has no use
for what the others of its group import.  The one-line help of every command in such a group
is therefore repeated beside its place; a test compares it with the command's own.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click


class LazyCommand(NamedTuple):
    """Where a command is, and what the help of its group says of it."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "account": LazyCommand("ebsim.cli.access", "account", "Make and list accounts."),
    "analyze": LazyCommand(
        "ebsim.cli.analyze", "analyze", "Measure what deduplication and compression save."
    ),
    "demo": LazyCommand("ebsim.cli.demo", "demo", "Show the main job on a small disk."),
    "env": LazyCommand(
        "ebsim.cli.access", "env", "Print what AWS clients need, as shell commands."
    ),
    "events": LazyCommand(
        "ebsim.cli.shown_events",
        "events",
        "Show what happened, as EventBridge tells it, and where that is sent.",
    ),
    "export": LazyCommand(
        "ebsim.cli.images", "export_image", "Write a snapshot to a qcow2, VMDK or other image."
    ),
    "fast-restore": LazyCommand(
        "ebsim.cli.fast_restore",
        "fast_restore",
        "Have volumes of snapshots loaded before anybody asks for them.",
    ),
    "import": LazyCommand(
        "ebsim.cli.images", "import_image", "Snapshot a qcow2, VMDK, VHD, VHDX or VDI image."
    ),
    "instance": LazyCommand(
        "ebsim.cli.instance", "instance", "Name groups of volumes, as machines have them."
    ),
    "key": LazyCommand(
        "ebsim.cli.access", "key", "Make, list and remove the keys that AWS clients sign with."
    ),
    "lifecycle": LazyCommand(
        "ebsim.cli.lifecycle", "lifecycle", "Take and delete snapshots by schedule."
    ),
    "mount": LazyCommand(
        "ebsim.cli.mounted",
        "mount",
        "Show snapshots and volumes as files in DIR until it is unmounted.",
    ),
    "region": LazyCommand("ebsim.cli.region", "region", "Make, list and remove regions."),
    "recycle-bin": LazyCommand(
        "ebsim.cli.recycle_bin",
        "recycle_bin",
        "Restore what was deleted, and say what is kept for how long.",
    ),
    "restore": LazyCommand(
        "ebsim.cli.restore", "restore", "Write a snapshot to a file or device."
    ),
    "serve": LazyCommand(
        "ebsim.cli.served_api",
        "serve",
        "Serve the EC2, EBS and other AWS APIs to unmodified AWS clients.",
    ),
    "snapshot": LazyCommand(
        "ebsim.cli.snapshot", "snapshot", "Take, list, compare, verify and delete snapshots."
    ),
    "store": LazyCommand("ebsim.cli.store", "store", "Measure, check, repair and compact."),
    "volume": LazyCommand("ebsim.cli.volume", "volume", "Make, attach, change and list volumes."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by *places* until one is used."""

    def __init__(
        self,
        name: str | None = None,
        *,
        places: Mapping[str, LazyCommand],
        **attributes: Any,
    ) -> None:
        super().__init__(name, **attributes)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        place = self._places.get(cmd_name)
        if place is None:
            return None
        command = getattr(import_module(place.module), place.attribute)
        assert isinstance(command, click.Command), f"{place} is no command"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without loading any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self._places[name].summary) for name in sorted(self._places)]
            )
