"""Tags: what keys and values may be, and changing those of a snapshot.

Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html ("Tag
restrictions"): at most 50, keys to 127 characters, values to 255, ``aws:`` reserved.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ebsim.catalog.records import get_snapshot, put_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.engine.recovery import forget_snapshot, note_snapshot, write_current_manifest
from ebsim.engine.region import Region
from ebsim.errors import InvalidRequest
from ebsim.metadata.transactions import Reader, Transaction

TAG_COUNT_MAX = 50
KEY_LENGTH_MAX = 127
VALUE_LENGTH_MAX = 255
DESCRIPTION_LENGTH_MAX = 255


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse tags that Amazon refuses."""
    if len(tags) > TAG_COUNT_MAX:
        raise InvalidRequest(
            f"{len(tags)} tags are more than {TAG_COUNT_MAX}. Nothing was changed."
        )
    for key, value in tags.items():
        _check_text("a tag", f"{key}={value}")
        if not 1 <= len(key) <= KEY_LENGTH_MAX:
            raise InvalidRequest(
                f"tag key '{key}' has {len(key)} characters, expected 1 to {KEY_LENGTH_MAX}. "
                "Nothing was changed."
            )
        if key.lower().startswith("aws:"):
            raise InvalidRequest(
                f"tag key '{key}' begins with 'aws:', which is reserved. Nothing was changed."
            )
        if len(value) > VALUE_LENGTH_MAX:
            raise InvalidRequest(
                f"the value of tag '{key}' has {len(value)} characters, expected at most "
                f"{VALUE_LENGTH_MAX}. Nothing was changed."
            )


def check_description(description: str) -> None:
    """Refuse a description that Amazon refuses."""
    _check_text("the description", description)
    if len(description) > DESCRIPTION_LENGTH_MAX:
        raise InvalidRequest(
            f"the description has {len(description)} characters, expected at most "
            f"{DESCRIPTION_LENGTH_MAX}. Nothing was changed."
        )


def _check_text(what: str, text: str) -> None:
    """Refuse bytes that the command line could not decode: no JSON could hold them."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{what} is not text in the encoding of this terminal, from character "
            f"{error.start} on. Nothing was changed."
        ) from error


def tag_snapshot(region: Region, name: str, tags: Mapping[str, str]) -> Snapshot:
    """Set *tags* on a snapshot, replacing values of keys that it has; return it."""
    return _change_tags(region, name, lambda old: {**old, **tags})


def untag_snapshot(region: Region, name: str, keys: Iterable[str]) -> Snapshot:
    """Remove the tags of *keys*; those that are not there are passed over."""
    gone = set(keys)
    return _change_tags(
        region, name, lambda old: {key: value for key, value in old.items() if key not in gone}
    )


def _change_tags(
    region: Region, name: str, change: Callable[[Mapping[str, str]], dict[str, str]]
) -> Snapshot:
    def changed(reader: Reader) -> Snapshot:
        old = get_snapshot(reader, region.account_id, name)
        tags = change(old.tags)
        check_tags(tags)
        return replace(old, tags=tags)

    # What makes no sense is refused before anything is written, a session's file included.
    region.metadata.read(changed)
    with region.session() as session:

        def put(txn: Transaction) -> Snapshot:
            new = changed(txn)
            put_snapshot(txn, new)
            if new.state is SnapshotState.COMPLETED:
                # The manifest is written after: recovery writes it if this process cannot.
                # A pending snapshot is the business of the session that takes it alone.
                note_snapshot(txn, session.session_id, new.snapshot_id)
            return new

        snapshot = region.metadata.run(put)
        if snapshot.state is SnapshotState.COMPLETED:
            write_current_manifest(region, snapshot.snapshot_id)
            region.metadata.run(
                lambda txn: forget_snapshot(txn, session.session_id, snapshot.snapshot_id)
            )
    return snapshot
