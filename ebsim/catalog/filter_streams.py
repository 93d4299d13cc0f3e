"""Which index streams a listing with filters has to read.

A filter narrows what is read if it asks for whole values, without wildcards.  Of several
the first in this order does, the others are held against what it finds:

    snapshot-id               those snapshots
    volume-id                 those of the volumes
    status, not completed     those in the states
    tag:KEY                   those tagged so by the account
    tag-key                   those on which the account has such a tag
    status                    those in the states

The streams hold all that the filters let through, and may hold more.
"""

from collections.abc import Sequence

from ebsim.catalog.audience import Audience
from ebsim.catalog.snapshot import SnapshotState
from ebsim.catalog.snapshot_filter import Filter, is_literal
from ebsim.catalog.snapshot_index import NamedSnapshots, Stream, having, of_volume
from ebsim.catalog.snapshot_terms import state_term, tag_key_term, tag_term
from ebsim.catalog.volume import UNKNOWN_VOLUME
from ebsim.ids import SnapshotId, VolumeId, is_whole_id

_TAG = "tag:"


def streams_for(
    filters: Sequence[Filter], audience: Audience
) -> Sequence[Stream] | Sequence[NamedSnapshots]:
    """Streams that hold all that *audience* shows and *filters* let through."""
    literal = {one.name: list(dict.fromkeys(one.values)) for one in filters if is_literal(one)}
    account_id = audience.account_id
    if "snapshot-id" in literal:
        names = [SnapshotId(v) for v in literal["snapshot-id"] if is_whole_id(v, "snap")]
        return [NamedSnapshots(tuple(names))]
    if "volume-id" in literal:
        return [of_volume(VolumeId(v)) for v in literal["volume-id"] if _is_volume_id(v)]
    states = literal.get("status")
    viewers = dict.fromkeys(stream.prefix.decode() for stream in audience.streams())
    in_states = [having(state_term(who, state)) for state in states or () for who in viewers]
    if states is not None and SnapshotState.COMPLETED not in states:
        return in_states
    for name, values in literal.items():
        if name.startswith(_TAG):
            key = name.removeprefix(_TAG)
            return [having(tag_term(account_id, key, value)) for value in values]
    if "tag-key" in literal:
        return [having(tag_key_term(account_id, key)) for key in literal["tag-key"]]
    return audience.streams() if states is None else in_states


def _is_volume_id(text: str) -> bool:
    return is_whole_id(text, "vol") or text == UNKNOWN_VOLUME.volume_id
