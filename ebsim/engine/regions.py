"""Making, finding and removing regions.

A region is removed by a rename, so that a crash leaves all of it or nothing that counts as
a region; what is left of the folder goes then, or with the next region that is made or
removed.
"""

import shutil
from contextlib import closing
from pathlib import Path
from random import SystemRandom

from ebsim.catalog.volume import decode_volume
from ebsim.chunkstore.ledger import scan_all
from ebsim.chunkstore.sessions import Sessions
from ebsim.durable_files import Files
from ebsim.engine.home import prepare_home, region_path
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region, open_region
from ebsim.errors import Conflict, NotFound
from ebsim.ids import AccountId
from ebsim.metadata.transactions import Reader, Table

_REMOVED = ".removed-"


def create_region(
    home: Path, name: str, account_id: AccountId, *, files: Files | None = None
) -> None:
    """Make an empty region.

    Raises:
        InvalidRequest: *name* is not the name of a region.
        Conflict: there is one of this name.
    """
    files = files or Files()
    path = region_path(home.absolute(), name)
    if files.status(path) is not None:
        raise Conflict(f"there is a region {name} in {home} already. Nothing was changed.")
    _sweep(path.parent)
    open_region(home, name, account_id, files=files).close()


def remove_region(
    home: Path, name: str, account_id: AccountId, *, files: Files | None = None
) -> None:
    """Remove a region in which there is no snapshot and no volume, of any account.

    Raises:
        InvalidRequest: *name* is not the name of a region.
        NotFound: there is no such region.
        Conflict: it is not empty, or a process is at work on it.
    """
    files = files or Files()
    home = home.absolute()
    prepare_home(home, files, create=False)
    path = region_path(home, name)
    if files.status(path) is None:
        raise NotFound(f"there is no region {name} in {home}. Nothing was changed.")
    with closing(open_region(home, name, account_id, create=False, files=files)) as region:
        recover(region)
        with Sessions(path / "sessions", SystemRandom(), files).shut_out():
            region.metadata.read(lambda reader: _refuse_unless_empty(reader, region))
            gone = path.with_name(f"{_REMOVED}{name}")
            _sweep(path.parent)
            files.rename(path, gone)
            files.sync_directory(path.parent)
    _sweep(path.parent)


def _refuse_unless_empty(reader: Reader, region: Region) -> None:
    if reader.scan(Table.SNAPSHOTS, limit=1):
        raise Conflict(
            f"the region {region.name} has snapshots. Nothing was changed. Delete them first, "
            "those of other accounts as well."
        )
    # In the recycle bin as well, so not by what an account is shown.
    volumes = (decode_volume(row) for _, row in scan_all(reader, Table.VOLUMES))
    if any(volume.is_local and not volume.is_deleted for volume in volumes):
        raise Conflict(
            f"the region {region.name} has volumes. Nothing was changed. Delete them first, "
            "those of other accounts as well."
        )


def _sweep(regions: Path) -> None:
    """Delete what is left of removed regions."""
    for path in regions.glob(f"{_REMOVED}*"):
        shutil.rmtree(path)
