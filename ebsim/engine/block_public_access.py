"""Blocking public sharing of an account's snapshots in a region.

    state                what it does
    unblocked            nothing
    block-new-sharing    no snapshot can be made public; those that are stay so
    block-all-sharing    beside that, those that are public are nobody else's to use; they
                         are again as soon as it is lifted

Source: https://docs.aws.amazon.com/ebs/latest/userguide/block-public-access-snapshots.html
"""

from dataclasses import replace

from ebsim.catalog.account_settings import BlockPublicAccess, get_settings, put_settings
from ebsim.engine.kept_settings import write_current_row
from ebsim.engine.record_access_events import public_access_blocked
from ebsim.engine.region import Region
from ebsim.metadata.transactions import Table, Transaction

_MESSAGES = {
    BlockPublicAccess.BLOCK_ALL_SHARING: "All public sharing of snapshots is blocked.",
    BlockPublicAccess.BLOCK_NEW_SHARING: "New public sharing of snapshots is blocked.",
}


def shown_public_access(region: Region) -> BlockPublicAccess:
    """What the account has set for its snapshots in the region."""
    settings = region.metadata.read(lambda reader: get_settings(reader, region.account_id))
    return settings.block_public_access


def block_public_access(region: Region, state: BlockPublicAccess) -> None:
    """Set *state* for the account's snapshots in the region, from this moment on."""

    def put(txn: Transaction) -> None:
        old = get_settings(txn, region.account_id)
        if old.block_public_access is state:
            return
        put_settings(txn, replace(old, block_public_access=state))
        if state is not BlockPublicAccess.UNBLOCKED:
            public_access_blocked(txn, region, state.value, _MESSAGES[state])

    with region.session():
        region.metadata.run(put)
        write_current_row(region, Table.ACCOUNT_SETTINGS, region.account_id.encode())
