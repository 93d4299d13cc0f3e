"""Terms: what snapshots are found by beside their time and their volume.

A term is a fact about a snapshot that an account sees: its state, a tag of the account's on it,
or the key of one.  Rows of SNAPSHOTS_BY_TERM begin with the first 16 bytes of the BLAKE3 of
a term written as JSON, since a tag may be longer than a key of the metadata.  Two terms that
met there would cost time and nothing else: what a row leads to is held against the filters.
"""

import json
from collections.abc import Collection

from ebsim.catalog.snapshot import Snapshot
from ebsim.content.digest import block_digest

_TERM_BYTES = 16


def state_term(viewer: str, state: str) -> bytes:
    """Snapshots in *state* that *viewer*, an account or all, owns or is given."""
    return _term("state", viewer, state)


def tag_term(account_id: str, key: str, value: str) -> bytes:
    """Snapshots that the account has tagged so."""
    return _term("tag", account_id, key, value)


def tag_key_term(account_id: str, key: str) -> bytes:
    """Snapshots on which the account has a tag of that key."""
    return _term("tag-key", account_id, key)


def _term(*words: str) -> bytes:
    return block_digest(json.dumps(words).encode())[:_TERM_BYTES]


def terms_of(snapshot: Snapshot, viewers: Collection[str]) -> set[bytes]:
    """The terms of *snapshot*, which *viewers* may own or be given."""
    terms = {state_term(viewer, snapshot.state) for viewer in viewers}
    for account_id, tags in ((snapshot.owner_id, snapshot.tags), *snapshot.foreign_tags.items()):
        for key, value in tags.items():
            terms |= {tag_term(account_id, key, value), tag_key_term(account_id, key)}
    return terms
