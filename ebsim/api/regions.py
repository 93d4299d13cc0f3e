"""The regions of a home, opened when a request first names one, and shared by all requests."""

import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random

from ebsim.api.block_plane import BlockPlane
from ebsim.api.faults import ApiError
from ebsim.api.service_models import amazon_regions
from ebsim.clock import Clock
from ebsim.durable_files import Files
from ebsim.engine.home import region_names, region_path
from ebsim.engine.region import Region, metadata_identity, open_region
from ebsim.errors import EbsimError
from ebsim.ids import AccountId

ZONE_LETTERS = "abc"
_NOBODY = AccountId("000000000000")


def zones_of(region_name: str) -> list[str]:
    """The availability zones of a region."""
    return [f"{region_name}{letter}" for letter in ZONE_LETTERS]


class Regions:
    """The open regions of a home.  Safe from many threads.

    A region that has no store yet reads as an empty one; what writes makes its store.  All
    requests share one region, for a process must not open LMDB's files twice.
    """

    def __init__(
        self,
        home: Path,
        files: Files,
        clock: Clock,
        random: Random,
        *,
        tell_bug: Callable[[str], None],
        listing_lag_seconds: float = 0,
    ) -> None:
        """*listing_lag_seconds*: how long blocks of a completed snapshot cannot be listed."""
        self._home = home
        self._files = files
        self._clock = clock
        self._random = random
        self._lock = threading.Lock()
        self._open: dict[str, Region] = {}
        self._resources = ExitStack()
        self._empty: Region | None = None
        self._tell_bug = tell_bug
        self._listing_lag_seconds = listing_lag_seconds
        self._planes: dict[tuple[Path, int], BlockPlane] = {}

    def names(self) -> list[str]:
        """Every region that a request may name."""
        return sorted({*amazon_regions(), *region_names(self._home)})

    def made_names(self) -> list[str]:
        """The regions that have a store."""
        return region_names(self._home)

    def exists(self, name: str) -> bool:
        """Whether a request may name it: it was made, or Amazon has it."""
        return name in amazon_regions() or name in region_names(self._home)

    def region(self, name: str, *, create: bool) -> Region:
        """The region *name*, open and shared.

        Raises:
            ApiError: a region that is nowhere.
        """
        if not self.exists(name):
            raise ApiError("InvalidRegion", f"Invalid region: {name}")
        with self._lock:
            found = self._open.get(name)
            path = region_path(self._home, name)
            if found is not None and (
                metadata_identity(self._files, path) == found.metadata_identity
            ):
                return found
            if not create and self._files.status(path) is None:
                return replace(self._empty_region(), name=name)
            # A store whose metadata was rebuilt is opened anew; requests that still read the
            # old one must find it open, so it is closed at the end.
            opened = self._opened(self._home, name)
            self._open[name] = opened
            return opened

    def blocks(self, region: Region) -> BlockPlane:
        """What is kept of an open *region* for reading and writing its blocks."""
        key = region.path, region.metadata_identity
        with self._lock:
            if key not in self._planes:
                plane = BlockPlane(
                    region, self._tell_bug, listing_lag_seconds=self._listing_lag_seconds
                )
                self._planes[key] = plane
                # Ended before the region is closed, which was opened before.
                self._resources.callback(plane.close)
            return self._planes[key]

    def go_on(self) -> None:
        """Go on with what was left to be done for blocks when the last server ended."""
        for name in region_names(self._home):
            try:
                self.blocks(self.region(name, create=True))
            except EbsimError as error:
                # One region that cannot be opened must not keep the others from being served.
                self._tell_bug(f"{name}: {error}")

    def _opened(self, home: Path, name: str) -> Region:
        region = open_region(
            home, name, _NOBODY, clock=self._clock, random=self._random, files=self._files
        )
        self._resources.callback(region.close)
        return region

    def _empty_region(self) -> Region:
        """A store with nothing in it, to answer for the regions that have none."""
        if self._empty is None:
            folder = self._resources.enter_context(
                tempfile.TemporaryDirectory(prefix="ebsim-empty-")
            )
            self._empty = self._opened(Path(folder) / "home", "empty")
        return self._empty

    def close(self) -> None:
        """Close all; no request may be at work any more."""
        with self._lock:
            self._open.clear()
            self._empty = None
            self._resources.close()
