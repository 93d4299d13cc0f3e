"""``ebsim fast-restore``: volumes of snapshots that are loaded before anybody asks."""

import click

from ebsim.cli.lazy_commands import LazyCommand, LazyGroup

FAST_RESTORE_COMMANDS = {
    "disable": LazyCommand(
        "ebsim.cli.fast_restored", "disable", "Keep no volume of the snapshot SNAP loaded."
    ),
    "enable": LazyCommand(
        "ebsim.cli.fast_restored",
        "enable",
        "Keep a volume of the snapshot SNAP loaded, for the next who makes one.",
    ),
    "ls": LazyCommand("ebsim.cli.fast_restored", "ls", "List what is kept loaded."),
}


@click.group(cls=LazyGroup, places=FAST_RESTORE_COMMANDS)
def fast_restore() -> None:
    """Have volumes of snapshots loaded before anybody asks for them."""
