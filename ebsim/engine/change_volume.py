"""Changing what the catalog says of a volume: the row first, its kept record after it."""

from collections.abc import Callable

from ebsim.catalog.records import find_volume, put_volume
from ebsim.catalog.volume import Volume
from ebsim.engine.kept_records import write_current_record
from ebsim.engine.region import Region
from ebsim.metadata.transactions import Reader, Transaction


def change_volume(
    region: Region,
    changed: Callable[[Reader], Volume],
    report: Callable[[Transaction, Volume | None, Volume], None] | None = None,
) -> Volume:
    """Write the volume that *changed* gives, where it is not so already; return it.

    *changed* is called once before there is a session, so that what it refuses leaves not
    even a session's file, and again in the transaction.  There *report* follows, with the
    volume before and after, if they differ.
    """

    def put(txn: Transaction) -> Volume:
        volume = changed(txn)
        before = find_volume(txn, volume.volume_id)
        if volume != before:
            put_volume(txn, volume)
            if report is not None:
                report(txn, before, volume)
        return volume

    volume = region.metadata.read(changed)
    if volume == region.metadata.read(lambda reader: find_volume(reader, volume.volume_id)):
        return volume
    with region.session():
        volume = region.metadata.run(put)
        write_current_record(region, volume.volume_id)
    return volume
