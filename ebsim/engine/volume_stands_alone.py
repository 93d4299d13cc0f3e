"""Noting that a volume needs its origin no more."""

from dataclasses import replace

from ebsim.catalog.records import find_volume, put_volume
from ebsim.engine.holds import drop_holds
from ebsim.engine.kept_records import write_current_record
from ebsim.engine.record_events import volume_initialized
from ebsim.engine.region import Region
from ebsim.ids import VolumeId
from ebsim.metadata.transactions import Transaction


def volume_stands_alone(region: Region, volume_id: VolumeId) -> None:
    """Every block of the volume is here: let go of what it was made from.

    Harmless when it was done before.  The caller has the volume open, in a session.
    """

    def note(txn: Transaction) -> None:
        volume = find_volume(txn, volume_id)
        if volume is not None and volume.origin is not None:
            put_volume(txn, replace(volume, origin=None))
            drop_holds(txn, volume_id)
            if volume.pooled_zone is None:
                volume_initialized(txn, region, volume)

    region.metadata.run(note)
    write_current_record(region, volume_id)
    region.reclaimer().run()
