"""``ebsim lifecycle``: snapshots taken and deleted by schedule."""

import click

from ebsim.cli.lazy_commands import LazyCommand, LazyGroup

LIFECYCLE_COMMANDS = {
    "create": LazyCommand(
        "ebsim.cli.made_policies", "create", "Make a policy: what is snapshotted when, and kept."
    ),
    "disable": LazyCommand(
        "ebsim.cli.made_policies", "disable", "Let policies do nothing until they are enabled."
    ),
    "enable": LazyCommand(
        "ebsim.cli.made_policies", "enable", "Let policies do what is due from now on."
    ),
    "ls": LazyCommand("ebsim.cli.run_policies", "ls", "List policies, and when each is due next."),
    "rm": LazyCommand("ebsim.cli.made_policies", "rm", "Remove policies; their snapshots stay."),
    "run": LazyCommand(
        "ebsim.cli.run_policies", "run", "Do what is due, whenever it is, or now and be done."
    ),
    "show": LazyCommand("ebsim.cli.run_policies", "show", "Show everything about one policy."),
}


@click.group(cls=LazyGroup, places=LIFECYCLE_COMMANDS)
def lifecycle() -> None:
    """Take and delete snapshots by schedule."""
