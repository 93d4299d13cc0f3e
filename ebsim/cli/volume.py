"""``ebsim volume``: disks made from snapshots, and those that snapshots were taken of."""

import click

from ebsim.cli.lazy_commands import LazyCommand, LazyGroup

VOLUME_COMMANDS = {
    "attach": LazyCommand(
        "ebsim.cli.attached_volumes",
        "attach",
        "Serve the volume VOL over NBD until it is detached; print its URI first.",
    ),
    "copy": LazyCommand(
        "ebsim.cli.changed_volumes",
        "copy",
        "Make another volume of the same bytes as VOL, which nobody may have open.",
    ),
    "create": LazyCommand(
        "ebsim.cli.made_volumes",
        "create",
        "Make a volume from a snapshot, usable at once, or an empty one.",
    ),
    "detach": LazyCommand(
        "ebsim.cli.attached_volumes",
        "detach",
        "Let the process that serves VOL finish, flush and end; give up its place in an instance.",
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
    "resize": LazyCommand(
        "ebsim.cli.changed_volumes", "resize", "Make the volume VOL larger, attached or not."
    ),
    "resume": LazyCommand(
        "ebsim.cli.attached_volumes", "resume", "Go on loading in the background."
    ),
    "rm": LazyCommand(
        "ebsim.cli.changed_volumes", "rm", "Remove volumes and their bytes; their snapshots stay."
    ),
    "show": LazyCommand(
        "ebsim.cli.listed_volumes", "show", "Show everything about the volume VOL."
    ),
    "status": LazyCommand(
        "ebsim.cli.listed_volumes",
        "status",
        "Tell whether volumes are well, and how far they are loaded.",
    ),
    "tag": LazyCommand(
        "ebsim.cli.tagged_volumes",
        "tag",
        "Set tags of the volume or source VOL; a key that it has already gets the new value.",
    ),
    "untag": LazyCommand(
        "ebsim.cli.tagged_volumes", "untag", "Remove tags from the volume or source VOL."
    ),
}


@click.group(cls=LazyGroup, places=VOLUME_COMMANDS)
def volume() -> None:
    """Make, attach, change and list volumes."""
