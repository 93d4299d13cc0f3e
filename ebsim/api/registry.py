"""All actions that are served, by service.  A group of actions is a module; name it here."""

from collections.abc import Mapping, Sequence

from ebsim.api.action import Action
from ebsim.api.dlm import policies
from ebsim.api.ebs import reading, writing
from ebsim.api.ec2 import (
    attachments,
    encryption,
    fast_restore,
    imports,
    instances,
    places,
    recycle_bin,
    snapshot_access,
    snapshot_copies,
    snapshot_locks,
    snapshot_tiers,
    snapshots,
    tags,
    volume_changes,
    volume_health,
    volumes,
)
from ebsim.api.kms import keys
from ebsim.api.rbin import rules
from ebsim.api.sts import caller

GROUPS: Mapping[str, Sequence[Sequence[Action]]] = {
    "dlm": (policies.ACTIONS,),
    "ebs": (
        reading.ACTIONS,
        writing.ACTIONS,
    ),
    "ec2": (
        places.ACTIONS,
        snapshots.ACTIONS,
        snapshot_access.ACTIONS,
        snapshot_copies.ACTIONS,
        snapshot_tiers.ACTIONS,
        snapshot_locks.ACTIONS,
        fast_restore.ACTIONS,
        recycle_bin.ACTIONS,
        tags.ACTIONS,
        volumes.ACTIONS,
        volume_changes.ACTIONS,
        volume_health.ACTIONS,
        attachments.ACTIONS,
        encryption.ACTIONS,
        imports.ACTIONS,
        instances.ACTIONS,
    ),
    "kms": (keys.ACTIONS,),
    "rbin": (rules.ACTIONS,),
    "sts": (caller.ACTIONS,),
}
"""The groups of each service; the service's name is botocore's, and what it is signed by."""


def _by_name(groups: Sequence[Sequence[Action]]) -> dict[str, Action]:
    found: dict[str, Action] = {}
    for group in groups:
        for one in group:
            assert one.name not in found, f"{one.name} is served twice"
            found[one.name] = one
    return found


ACTIONS: Mapping[str, Mapping[str, Action]] = {
    service: _by_name(groups) for service, groups in GROUPS.items()
}
"""Each service's actions by name."""
