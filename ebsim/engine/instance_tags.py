"""Changing the tags of an instance."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ebsim.catalog.instance import Instance
from ebsim.catalog.records import get_instance, put_instance
from ebsim.engine.kept_records import write_current_instance
from ebsim.engine.region import Region
from ebsim.engine.tags import check_tags
from ebsim.metadata.transactions import Reader, Transaction


def tag_instance(region: Region, name: str, tags: Mapping[str, str]) -> Instance:
    """Set *tags* on an instance, replacing values of keys that it has; return it.

    Raises:
        InstanceNotFound, InvalidRequest: the name, or a tag that Amazon refuses.
    """
    return _change_tags(region, name, lambda old: {**old, **tags})


def untag_instance(region: Region, name: str, keys: Iterable[str]) -> Instance:
    """Remove the tags of *keys*; those that are not there are passed over."""
    gone = set(keys)
    return _change_tags(
        region, name, lambda old: {key: value for key, value in old.items() if key not in gone}
    )


def _change_tags(
    region: Region, name: str, change: Callable[[Mapping[str, str]], dict[str, str]]
) -> Instance:
    def changed(reader: Reader) -> tuple[Instance, Instance]:
        old = get_instance(reader, region.account_id, name)
        tags = change(old.tags)
        check_tags(tags)
        return old, replace(old, tags=tags)

    def put(txn: Transaction) -> Instance:
        _, new = changed(txn)
        put_instance(txn, new)
        return new

    # What is refused, or changes nothing, leaves not even a session's file.
    old, new = region.metadata.read(changed)
    if new == old:
        return old
    with region.session():
        new = region.metadata.run(put)
        write_current_instance(region, new.instance_id)
    return new
