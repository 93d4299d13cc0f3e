"""Finding volumes: those made here, and the sources that snapshots were taken of."""

from ebsim.catalog.records import find_volume, get_volume, scan_volumes
from ebsim.catalog.volume import Volume
from ebsim.engine.region import Region
from ebsim.ids import VolumeId


def list_volumes(region: Region) -> list[Volume]:
    """The account's volumes, by id."""
    return region.metadata.read(lambda reader: scan_volumes(reader, region.account_id))


def every_volume(region: Region) -> list[Volume]:
    """The volumes of all accounts, by id, without those that nobody finds."""
    return region.metadata.read(scan_volumes)


def volume_of_anybody(region: Region, volume_id: VolumeId) -> Volume | None:
    """The volume of that id, whose it may be; also one that its owner does not find."""
    return region.metadata.read(lambda reader: find_volume(reader, volume_id))


def show_volume(region: Region, name: str) -> Volume:
    """The volume of that id, or the only one whose id begins so.

    Raises:
        InvalidRequest, VolumeNotFound: there is none, or more than one.
    """
    return region.metadata.read(lambda reader: get_volume(reader, region.account_id, name))
