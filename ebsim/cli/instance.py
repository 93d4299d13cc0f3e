"""``ebsim instance``: names for groups of volumes that are snapshotted together."""

import click

from ebsim.cli.lazy_commands import LazyCommand, LazyGroup

INSTANCE_COMMANDS = {
    "create": LazyCommand(
        "ebsim.cli.made_instances", "create", "Make an instance that has no volumes yet."
    ),
    "ls": LazyCommand(
        "ebsim.cli.made_instances", "ls", "List instances and their volumes, boot volumes first."
    ),
    "rm": LazyCommand(
        "ebsim.cli.made_instances",
        "rm",
        "Remove instances, whose volumes must have been detached.",
    ),
    "show": LazyCommand("ebsim.cli.made_instances", "show", "Show the instance and its volumes."),
    "tag": LazyCommand(
        "ebsim.cli.tagged_instances",
        "tag",
        "Set tags of the instance; a key that it has already gets the new value.",
    ),
    "untag": LazyCommand("ebsim.cli.tagged_instances", "untag", "Remove tags from the instance."),
}


@click.group(cls=LazyGroup, places=INSTANCE_COMMANDS)
def instance() -> None:
    """Name groups of volumes, as machines have them."""
