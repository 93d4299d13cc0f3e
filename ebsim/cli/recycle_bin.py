"""``ebsim recycle-bin``: what was deleted and can come back, and the rules of that."""

import click

from ebsim.cli.lazy_commands import LazyCommand, LazyGroup

RECYCLE_BIN_COMMANDS = {
    "ls": LazyCommand(
        "ebsim.cli.binned", "ls", "List the snapshots and volumes that can be restored."
    ),
    "restore": LazyCommand(
        "ebsim.cli.binned", "restore", "Take snapshots and volumes out of the recycle bin."
    ),
    "rule": LazyCommand(
        "ebsim.cli.recycle_bin", "rule", "Say what the recycle bin keeps, and for how long."
    ),
}

RULE_COMMANDS = {
    "create": LazyCommand(
        "ebsim.cli.retention_rules", "create", "Keep what is deleted from now on for DAYS days."
    ),
    "lock": LazyCommand(
        "ebsim.cli.retention_rules", "lock", "Let nobody change or remove the rule RULE."
    ),
    "ls": LazyCommand("ebsim.cli.retention_rules", "ls", "List the rules."),
    "rm": LazyCommand(
        "ebsim.cli.retention_rules",
        "rm",
        "Remove the rule RULE; what is in the bin stays until its time.",
    ),
    "unlock": LazyCommand(
        "ebsim.cli.retention_rules",
        "unlock",
        "Have the rule RULE unlocked when its delay is over.",
    ),
    "update": LazyCommand(
        "ebsim.cli.retention_rules",
        "update",
        "Change the rule RULE, for what is deleted from now on.",
    ),
}


@click.group(cls=LazyGroup, places=RECYCLE_BIN_COMMANDS)
def recycle_bin() -> None:
    """Restore what was deleted, and say what is kept for how long."""


@click.group(cls=LazyGroup, places=RULE_COMMANDS)
def rule() -> None:
    """Say what the recycle bin keeps, and for how long."""
