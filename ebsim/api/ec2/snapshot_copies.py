"""Copying snapshots between regions and accounts.

As on the real service a source that is not there, not shared, or not completed is accepted,
and the copy fails.  ``PresignedUrl`` is what a client signs for the source region, and
``DestinationRegion`` a part of that: as on the real service the copy goes to the region
that the request is sent to, and the request's own signature tells who copies.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopySnapshot.html
"""

from dataclasses import replace

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.ec2.shapes import specified_tags, tag_list
from ebsim.api.ec2.snapshots import described
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.catalog.snapshot import Snapshot
from ebsim.engine.copy_snapshot import CopyOptions, SnapshotCopy, register_failed_copy
from ebsim.engine.region import Region
from ebsim.engine.work_in_progress import snapshots_in_progress
from ebsim.errors import Conflict, SnapshotArchived, SnapshotNotFound, UnsupportedParameter
from ebsim.ids import is_whole_id
from ebsim.progress import Unwatched

COPIES_MAX = 20


def copy(call: Call, params: Params) -> Answer:
    """Begin to copy a snapshot into the region of the request."""
    source_id = params["SourceSnapshotId"]
    if not is_whole_id(source_id, "snap"):
        raise ApiError("InvalidParameterValue", "The specified snapshotId is invalid")
    if params.get("Encrypted"):
        raise UnsupportedParameter(
            "The parameter Encrypted is not supported by ebsim with the value true. Nothing was "
            "changed. Leave it out."
        )
    options = CopyOptions(
        description=described(params),
        tags=specified_tags(params, "snapshot"),
        completion_duration_minutes=params.get("CompletionDurationMinutes"),
        is_announced=True,
    )
    options.check()
    # Reading it makes no store of it.
    source = call.regions.region(params["SourceRegion"], create=False)
    source = replace(source, account_id=call.account_id, request_id=call.request_id)
    region = call.region
    _refuse_too_many(region)
    with call.room_for(1):
        made = _begin(call, region, source, source_id, options)
    return {"SnapshotId": made.snapshot_id, "Tags": tag_list(made.tags)}


def _begin(
    call: Call, region: Region, source: Region, source_id: str, options: CopyOptions
) -> Snapshot:
    """Begin the copy; one that can only fail is listed as failed."""
    try:
        copying = SnapshotCopy(region, source, source_id, options)
        begun = copying.begin()
    except SnapshotArchived:
        raise
    except SnapshotNotFound:
        why = "Source snapshot is not found"
    except Conflict:
        why = "Source snapshot is not complete"
    else:
        call.work.go_on(begun.snapshot_id, lambda: copying.run(Unwatched()))
        return begun
    return register_failed_copy(region, source.name, source_id, options, why)


def _refuse_too_many(region: Region) -> None:
    pending = [one for one in snapshots_in_progress(region) if one.is_announced]
    if len([one for one in pending if one.owner_id == region.account_id]) >= COPIES_MAX:
        raise ApiError(
            "ResourceLimitExceeded",
            f"Too many snapshot copies in progress. The limit is {COPIES_MAX} for this "
            "destination region.",
        )


ACTIONS = (
    action(
        "CopySnapshot",
        copy,
        "SourceRegion",
        "SourceSnapshotId",
        "Description",
        "Encrypted",
        "PresignedUrl",
        "DestinationRegion",
        "TagSpecifications",
        "CompletionDurationMinutes",
    ),
)
