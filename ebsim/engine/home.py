"""The home directory: its marker, its regions, and what may not be nested in it.

HOME/ebsim.json                     {"format": 1, "features": []}
HOME/regions/REGION/packs/          packs
HOME/regions/REGION/snapshots/      manifests
HOME/regions/REGION/metadata/       the LMDB environment
HOME/regions/REGION/sessions/       a locked file for each process at work
HOME/regions/REGION/reserve         room kept for deleting on a full disk
"""

import json
import re
from pathlib import Path

from ebsim.durable_files import Files, write_atomically
from ebsim.errors import InvalidRequest, NotFound, UnsupportedFormat

FORMAT = 1
MARKER = "ebsim.json"
_REGIONS = "regions"
_REGION_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def region_path(home: Path, region_name: str) -> Path:
    """Where a region of *home* lies.

    Raises:
        InvalidRequest: *region_name* is not the name of a region.
    """
    if _REGION_NAME.fullmatch(region_name) is None:
        raise InvalidRequest(
            f"'{region_name}' is not a region's name: lower-case letters, digits and dashes, "
            "such as us-east-1."
        )
    return home / _REGIONS / region_name


def region_names(home: Path) -> list[str]:
    """The names of the regions of *home*."""
    folder = home / _REGIONS
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if _REGION_NAME.fullmatch(name))


def home_of(path: Path) -> Path | None:
    """The home that *path* lies in, or is."""
    for folder in (path, *path.parents):
        if (folder / MARKER).is_file():
            return folder
    return None


def prepare_home(home: Path, files: Files, *, create: bool) -> None:
    """Check that *home* is one that this ebsim can use, making it if *create* says so.

    Raises:
        NotFound: there is none, and none was to be made.
        UnsupportedFormat: a newer ebsim made it.
        InvalidRequest: it lies inside another home.
    """
    marker = home / MARKER
    if files.status(marker) is not None:
        _check_marker(marker)
        return
    if not create:
        raise NotFound(
            f"there is no ebsim home at {home}. Take a snapshot to make one, or name another "
            "with --home or EBSIM_HOME."
        )
    # Behind links as well: what counts is where the files would lie.
    outer = home_of(home.resolve())
    if outer is not None:
        raise InvalidRequest(
            f"{home} lies inside the ebsim home {outer}. Nothing was changed. "
            "Choose a directory outside it."
        )
    files.make_directories(home)
    write_atomically(files, marker, json.dumps({"format": FORMAT, "features": []}).encode())


def _check_marker(marker: Path) -> None:
    try:
        content = json.loads(marker.read_bytes())
        home_format, features = content["format"], content["features"]
    except (ValueError, KeyError, TypeError) as error:
        raise UnsupportedFormat(
            f"{marker} is not an ebsim home's marker: {error!r}. Nothing was changed. "
            f'If the directory is a home, write {{"format": {FORMAT}, "features": []}} there.'
        ) from error
    if home_format != FORMAT or features:
        raise UnsupportedFormat(
            f"the home {marker.parent} has format {home_format}, features {features}; this "
            f"ebsim reads format {FORMAT}. Nothing was changed. Use a newer ebsim."
        )
