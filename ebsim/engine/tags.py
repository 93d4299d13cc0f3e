"""Tags: what keys and values may be, and changing those of a snapshot.

Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html ("Tag
restrictions"): at most 50, keys to 127 characters, values to 255, ``aws:`` reserved.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ebsim.catalog.records import find_snapshot, get_usable_snapshot
from ebsim.catalog.snapshot import Snapshot, seen_by
from ebsim.engine.change_snapshot import change_snapshot
from ebsim.engine.region import Region
from ebsim.errors import InvalidRequest
from ebsim.metadata.transactions import Reader

TAG_COUNT_MAX = 50
KEY_LENGTH_MAX = 127
VALUE_LENGTH_MAX = 255
DESCRIPTION_LENGTH_MAX = 255
RESERVED_PREFIX = "aws:"


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
        if key.lower().startswith(RESERVED_PREFIX):
            raise InvalidRequest(
                f"tag key '{key}' begins with '{RESERVED_PREFIX}', which is reserved. Nothing was "
                "changed."
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
    """Set *tags* on a snapshot, replacing values of keys that it has; return it.

    An account that a snapshot is shared with has tags of its own on it.
    """
    check_tags(tags)
    return _change_tags(region, name, lambda old: {**old, **tags})


def untag_snapshot(region: Region, name: str, keys: Iterable[str]) -> Snapshot:
    """Remove the tags of *keys*; those that are not there are passed over."""
    gone = set(keys)
    for key in sorted(gone):
        if key.lower().startswith(RESERVED_PREFIX):
            raise InvalidRequest(
                f"tag key '{key}' begins with '{RESERVED_PREFIX}', which is reserved. Nothing was "
                "changed."
            )
    return _change_tags(
        region, name, lambda old: {key: value for key, value in old.items() if key not in gone}
    )


def _change_tags(
    region: Region, name: str, change: Callable[[Mapping[str, str]], dict[str, str]]
) -> Snapshot:
    me = region.account_id

    def changed(reader: Reader) -> Snapshot:
        old = get_usable_snapshot(reader, me, name)
        tags = change(old.tags)
        # Those of a lifecycle policy are not the user's to set, nor counted as his.
        check_tags({key: tags[key] for key in tags if not key.startswith(RESERVED_PREFIX)})
        if old.owner_id == me:
            return replace(old, tags=tags)
        # What was found is as this account sees it.
        whole = find_snapshot(reader, old.snapshot_id)
        assert whole is not None, "it was found in this transaction"
        others = {account: kept for account, kept in whole.foreign_tags.items() if account != me}
        return replace(whole, foreign_tags={**others, me: tags} if tags else others)

    return seen_by(change_snapshot(region, changed), me)
