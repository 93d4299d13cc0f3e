"""Who may use a snapshot: its permissions, and the account's block on public sharing."""

from collections.abc import Iterable, Sequence

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.ec2 import ids
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.catalog.account_settings import BlockPublicAccess
from ebsim.catalog.snapshot_index import PUBLIC
from ebsim.engine.block_public_access import block_public_access, shown_public_access
from ebsim.engine.list_snapshots import show_snapshot
from ebsim.engine.share_snapshot import (
    Grantees,
    reset_sharing,
    share_snapshot,
    shown_sharing,
    unshare_snapshot,
)
from ebsim.ids import is_account_id

_PERMISSION = "createVolumePermission"


def modify(call: Call, params: Params) -> Answer:
    """Let accounts, or all, use a snapshot, or let them no more."""
    name = ids.snapshot_id(params["SnapshotId"])
    if params.get("Attribute", _PERMISSION) != _PERMISSION:
        raise ApiError(
            "InvalidParameterValue",
            f"Value ({params['Attribute']}) for parameter attribute is invalid. Only "
            f"{_PERMISSION} can be modified.",
        )
    added, removed = _changes(params)
    if added and removed:
        raise ApiError(
            "InvalidParameterCombination",
            "Permissions cannot be added and removed in one request.",
        )
    if added:
        share_snapshot(call.region, name, _grantees(added))
    else:
        unshare_snapshot(call.region, name, _grantees(removed))
    return {}


def _changes(params: Params) -> tuple[list[Params], list[Params]]:
    """The permissions to add and to remove, in whichever of its two forms they are given."""
    structure: Params = params.get("CreateVolumePermission", {})
    listed: list[Params] = [{"UserId": user} for user in params.get("UserIds", ())]
    listed += [{"Group": group} for group in params.get("GroupNames", ())]
    added, removed = list(structure.get("Add", ())), list(structure.get("Remove", ()))
    operation = params.get("OperationType")
    if (listed or operation) and (added or removed):
        raise ApiError(
            "InvalidParameterCombination",
            "The parameters OperationType, UserId and UserGroup cannot be used with the "
            "parameter CreateVolumePermission",
        )
    if listed and operation is None:
        raise ApiError("MissingParameter", "The request must contain the parameter OperationType")
    if operation == "remove":
        removed = listed
    elif operation == "add":
        added = listed
    if not added and not removed:
        raise ApiError(
            "MissingParameter", "The request must contain the parameter CreateVolumePermission"
        )
    return added, removed


def _grantees(permissions: Sequence[Params]) -> Grantees:
    """Those that *permissions* name.

    Raises:
        ApiError: something in them is no account, and not the group of all.
    """
    users = list(_named(permissions, "UserId"))
    groups = list(_named(permissions, "Group"))
    for what, values in (
        ("userId", [user for user in users if not is_account_id(user)]),
        ("userGroup", [group for group in groups if group != PUBLIC]),
    ):
        for value in values:
            raise ApiError(
                "InvalidAMIAttributeItemValue",
                f'Invalid attribute item value "{value}" for {what} item type.',
            )
    return Grantees.of(users, everybody=bool(groups))


def _named(permissions: Sequence[Params], member: str) -> Iterable[str]:
    return (str(one[member]) for one in permissions if member in one)


def describe(call: Call, params: Params) -> Answer:
    """The permissions of a snapshot; product codes, of which there are none."""
    name = ids.snapshot_id(params["SnapshotId"])
    if params["Attribute"] != _PERMISSION:
        show_snapshot(call.region, name)
        return {"SnapshotId": name, "ProductCodes": []}
    grantees = shown_sharing(call.region, name)
    permissions: list[Answer] = [{"Group": PUBLIC}] if grantees.everybody else []
    permissions += [{"UserId": account} for account in sorted(grantees.accounts)]
    return {"SnapshotId": name, "CreateVolumePermissions": permissions}


def reset(call: Call, params: Params) -> Answer:
    """Take all permissions back."""
    name = ids.snapshot_id(params["SnapshotId"])
    if params["Attribute"] != _PERMISSION:
        raise ApiError(
            "InvalidParameterValue",
            f"Value ({params['Attribute']}) for parameter attribute is invalid. Only "
            f"{_PERMISSION} can be reset.",
        )
    reset_sharing(call.region, name)
    return {}


def enable_block(call: Call, params: Params) -> Answer:
    """Block public sharing, of all snapshots or of those not public yet."""
    state = BlockPublicAccess(params["State"])
    if state is BlockPublicAccess.UNBLOCKED:
        raise ApiError(
            "InvalidParameterValue",
            f"Value ({state}) for parameter state is invalid. Expected: block-all-sharing or "
            "block-new-sharing.",
        )
    block_public_access(call.region, state)
    return {"State": state.value}


def disable_block(call: Call, params: Params) -> Answer:
    """Let snapshots be public."""
    del params
    block_public_access(call.region, BlockPublicAccess.UNBLOCKED)
    return {"State": BlockPublicAccess.UNBLOCKED.value}


def get_block(call: Call, params: Params) -> Answer:
    """Whether public sharing is blocked, and that the account itself decides it."""
    del params
    return {"State": shown_public_access(call.region).value, "ManagedBy": "account"}


ACTIONS = (
    action(
        "ModifySnapshotAttribute",
        modify,
        "SnapshotId",
        "Attribute",
        "OperationType",
        "UserIds",
        "GroupNames",
        "CreateVolumePermission",
    ),
    action("DescribeSnapshotAttribute", describe, "SnapshotId", "Attribute"),
    action("ResetSnapshotAttribute", reset, "SnapshotId", "Attribute"),
    action("EnableSnapshotBlockPublicAccess", enable_block, "State"),
    action("DisableSnapshotBlockPublicAccess", disable_block),
    action("GetSnapshotBlockPublicAccessState", get_block),
)
