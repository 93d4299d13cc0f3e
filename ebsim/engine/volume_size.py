"""What the catalog says of a volume's size: what the volume's own state says.

The state grows first, and the catalog follows.  Whoever grows a volume notes it; what a
crash kept from that is noted by recovery, and by whoever opens the volume.
"""

from dataclasses import replace

from ebsim.catalog.records import find_volume, put_volume
from ebsim.catalog.volume import Volume
from ebsim.engine.kept_records import write_current_record
from ebsim.engine.record_events import volume_modified
from ebsim.engine.region import Region
from ebsim.errors import VolumeNotFound
from ebsim.ids import VolumeId
from ebsim.metadata.transactions import Transaction


def note_size(region: Region, volume_id: VolumeId, size_bytes: int) -> Volume:
    """Let the catalog say that the volume's state has grown to *size_bytes*; return the volume.

    Harmless when it says so already, or more: volumes do not shrink.

    Raises:
        VolumeNotFound: it was removed.
    """

    def note(txn: Transaction) -> Volume:
        volume = find_volume(txn, volume_id)
        if volume is None or volume.is_deleted:
            raise VolumeNotFound(volume_id)
        grown = replace(volume, size_bytes=max(size_bytes, volume.size_bytes))
        put_volume(txn, grown)
        if grown != volume and volume.pooled_zone is None:
            # What is seen of a modification on the real service; there is nothing to wait for.
            volume_modified(txn, region, grown, "optimizing")
            volume_modified(txn, region, grown, "completed")
        return grown

    volume = region.metadata.run(note)
    write_current_record(region, volume_id)
    return volume
