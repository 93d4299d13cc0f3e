"""``ebsim volume``: disks made from snapshots, and those that snapshots were taken of."""

import click

from ebsim.cli.lazy_commands import LazyCommand, LazyGroup

VOLUME_COMMANDS = {
    "attach": LazyCommand(
        "ebsim.cli.attached_volumes",
        "attach",
        "Serve the volume VOL over NBD until it is detached; print its URI first.",
    ),
    "create": LazyCommand(
        "ebsim.cli.made_volumes",
        "create",
        "Make a volume from a snapshot, usable at once, or an empty one.",
    ),
    "detach": LazyCommand(
        "ebsim.cli.attached_volumes",
        "detach",
        "Ask the process that serves VOL to finish what it is at, flush, and end.",
    ),
    "initialize": LazyCommand(
        "ebsim.cli.attached_volumes", "initialize", "Load what is not here yet of the volume VOL."
    ),
    "ls": LazyCommand(
        "ebsim.cli.listed_volumes", "ls", "List volumes: sources, and those made here."
    ),
    "pause": LazyCommand(
        "ebsim.cli.attached_volumes",
        "pause",
        "Load nothing more in the background; what is read still comes.",
    ),
    "resume": LazyCommand(
        "ebsim.cli.attached_volumes", "resume", "Go on loading in the background."
    ),
}


@click.group(cls=LazyGroup, places=VOLUME_COMMANDS)
def volume() -> None:
    """Make, attach and list volumes."""
