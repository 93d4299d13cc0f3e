"""Finding volumes: those made here, and the sources that snapshots were taken of."""

from ebsim.catalog.records import get_volume, scan_volumes
from ebsim.catalog.volume import Volume
from ebsim.engine.region import Region


def list_volumes(region: Region) -> list[Volume]:
    """The account's volumes, by id."""
    return region.metadata.read(lambda reader: scan_volumes(reader, region.account_id))


def show_volume(region: Region, name: str) -> Volume:
    """The volume of that id, or the only one whose id begins so.

    Raises:
        InvalidRequest, VolumeNotFound: there is none, or more than one.
    """
    return region.metadata.read(lambda reader: get_volume(reader, region.account_id, name))
