"""``ebsim snapshot``: take, list, compare, verify and delete snapshots."""

import click

from ebsim.cli.lazy_commands import LazyCommand, LazyGroup

SNAPSHOT_COMMANDS = {
    "archive": LazyCommand(
        "ebsim.cli.archived_snapshots",
        "archive",
        "Store the snapshot SNAP complete by itself, and give back what only it needed.",
    ),
    "copy": LazyCommand(
        "ebsim.cli.copied_snapshots",
        "copy",
        "Copy the snapshot SNAP to another region; only what that has not travels.",
    ),
    "create": LazyCommand(
        "ebsim.cli.taken_snapshots",
        "create",
        "Snapshot each SOURCE: an image's path, a device, a volume's id, or - for standard input.",
    ),
    "diff": LazyCommand(
        "ebsim.cli.listed_snapshots", "diff", "Show where the snapshots A and B differ."
    ),
    "lock": LazyCommand(
        "ebsim.cli.locked_snapshots",
        "lock",
        "Lock the snapshot SNAP, so that nothing can delete it for a time.",
    ),
    "ls": LazyCommand(
        "ebsim.cli.listed_snapshots",
        "ls",
        "List snapshots: size, bytes it added, state, progress, parent.",
    ),
    "rm": LazyCommand(
        "ebsim.cli.deleted_snapshots", "rm", "Delete snapshots and say what that freed."
    ),
    "serve": LazyCommand(
        "ebsim.cli.served_snapshots",
        "serve",
        "Serve the snapshot SNAP over NBD, read-only, until interrupted; print its URI first.",
    ),
    "share": LazyCommand(
        "ebsim.cli.shared_snapshots",
        "share",
        "Let other accounts use the snapshot SNAP: list, read, copy it, make volumes of it.",
    ),
    "show": LazyCommand(
        "ebsim.cli.listed_snapshots", "show", "Show everything about the snapshot SNAP."
    ),
    "tag": LazyCommand(
        "ebsim.cli.tagged_snapshots",
        "tag",
        "Set tags of the snapshot SNAP; a key that it has already gets the new value.",
    ),
    "unlock": LazyCommand(
        "ebsim.cli.locked_snapshots",
        "unlock",
        "Take the lock off the snapshot SNAP, unless it is in compliance mode.",
    ),
    "unshare": LazyCommand(
        "ebsim.cli.shared_snapshots",
        "unshare",
        "Let accounts use the snapshot SNAP no more; volumes that they made stay theirs.",
    ),
    "tiers": LazyCommand(
        "ebsim.cli.archived_snapshots",
        "tiers",
        "Show the tier of snapshots that were ever archived, and what was last done to them.",
    ),
    "unarchive": LazyCommand(
        "ebsim.cli.archived_snapshots",
        "unarchive",
        "Restore the archived snapshot SNAP, so that it can be used.",
    ),
    "untag": LazyCommand(
        "ebsim.cli.tagged_snapshots", "untag", "Remove tags from the snapshot SNAP."
    ),
    "verify": LazyCommand(
        "ebsim.cli.verified_snapshots",
        "verify",
        "Read every block of the snapshots and check it against its digest.",
    ),
}


@click.group(cls=LazyGroup, places=SNAPSHOT_COMMANDS)
def snapshot() -> None:
    """Take, list, compare, verify and delete snapshots."""
