"""What a store that was kept holds, in a form that can be compared and kept as JSON."""

from dataclasses import asdict
from typing import Any

from ebsim.catalog.instance import instance_to_json
from ebsim.catalog.lifecycle_policy import policy_to_json
from ebsim.catalog.records import scan_instances, scan_volumes
from ebsim.catalog.retention_rule import rule_to_json
from ebsim.catalog.snapshot import Snapshot, decode_snapshot, snapshot_to_json
from ebsim.catalog.volume import volume_to_json
from ebsim.engine.block_public_access import shown_public_access
from ebsim.engine.event_sinks import list_sinks
from ebsim.engine.lifecycle_policies import all_policies
from ebsim.engine.list_events import EventFilter, list_events
from ebsim.engine.region import Region
from ebsim.engine.retention_rules import list_rules
from ebsim.ids import AccountId
from ebsim.metadata.transactions import Table

OTHER_ACCOUNT = AccountId("999999999999")
OTHER_REGION = "eu-west-1"
ENDED_NS = 1_700_000_000_000_000_000 + 2 * 86_400 * 10**9
"""A time at which nothing in the store is over that has an end."""


def records_of(region: Region) -> dict[str, Any]:
    """The records of all accounts in a region, but for what recompression would change."""
    return {
        "snapshots": [_without_sizes(one) for one in every_snapshot(region)],
        "volumes": [volume_to_json(one) for one in region.metadata.read(scan_volumes)],
        "instances": [instance_to_json(one) for one in region.metadata.read(scan_instances)],
        "rules": [rule_to_json(one) for one in list_rules(region)],
        "policies": [policy_to_json(one) for one in all_policies(region)],
        "sinks": [asdict(one) for one in list_sinks(region)],
        "public_access": shown_public_access(region),
        "events": [asdict(event) for _, event in list_events(region, EventFilter())],
    }


def every_snapshot(region: Region) -> list[Snapshot]:
    """The snapshots of all accounts by id, in whatever state they are."""
    rows = region.metadata.read(lambda reader: reader.scan(Table.SNAPSHOTS, limit=1000))
    return [decode_snapshot(row) for _, row in rows]


def _without_sizes(snapshot: Snapshot) -> dict[str, Any]:
    record = snapshot_to_json(snapshot)
    # What zstd makes of a block is its own affair, and may differ by version.
    for name in ("stored_bytes", "referenced_bytes"):
        record.pop(name, None)
    if record.get("archive"):
        del record["archive"]["size_bytes"]
    return record
