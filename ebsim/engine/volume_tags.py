"""Changing the tags of a volume."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ebsim.catalog.records import get_volume
from ebsim.catalog.volume import Volume
from ebsim.engine.change_volume import change_volume
from ebsim.engine.region import Region
from ebsim.engine.tags import check_tags
from ebsim.metadata.transactions import Reader


def tag_volume(region: Region, name: str, tags: Mapping[str, str]) -> Volume:
    """Set *tags* on a volume, replacing values of keys that it has; return it.

    Raises:
        VolumeNotFound, InvalidRequest: the name, or a tag that Amazon refuses.
    """
    return _change_tags(region, name, lambda old: {**old, **tags})


def untag_volume(region: Region, name: str, keys: Iterable[str]) -> Volume:
    """Remove the tags of *keys*; those that are not there are passed over."""
    gone = set(keys)
    return _change_tags(
        region, name, lambda old: {key: value for key, value in old.items() if key not in gone}
    )


def _change_tags(
    region: Region, name: str, change: Callable[[Mapping[str, str]], dict[str, str]]
) -> Volume:
    def changed(reader: Reader) -> Volume:
        old = get_volume(reader, region.account_id, name)
        tags = change(old.tags)
        check_tags(tags)
        return replace(old, tags=tags)

    return change_volume(region, changed)
