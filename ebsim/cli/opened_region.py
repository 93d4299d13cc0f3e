"""The region that the options name, open for one command."""

from collections.abc import Iterator
from contextlib import contextmanager

from ebsim.cli.settings import Settings
from ebsim.engine.region import Region, open_region


@contextmanager
def opened_region(settings: Settings, *, create: bool = False) -> Iterator[Region]:
    """The region, closed afterwards; *create* makes it, and its home, where there is none."""
    region = open_region(settings.home, settings.region_name, settings.account_id, create=create)
    try:
        yield region
    finally:
        region.close()
