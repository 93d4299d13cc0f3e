"""Volumes that are made once, however often the request with a client token comes."""

from collections.abc import Callable

from ebsim.catalog.client_tokens import TokenUse, find_answer, note_answer
from ebsim.catalog.records import get_volume
from ebsim.catalog.volume import Volume
from ebsim.engine.region import Region
from ebsim.ids import VolumeId
from ebsim.metadata.transactions import Reader, Transaction


class _MadeBefore(Exception):
    """The request was carried out already."""

    def __init__(self, volume_id: str) -> None:
        self.volume_id = volume_id


def made_once(region: Region, use: TokenUse | None, make: Callable[[], Volume]) -> Volume:
    """What *make* makes, or what it made when the request came first.

    *make* calls :func:`note_made` in the transaction that makes the volume.

    Raises:
        ClientTokenReused: the token came with another request before.
        VolumeNotFound: the volume was removed meanwhile.
    """
    try:
        region.metadata.read(lambda reader: _refuse_made_before(reader, use))
        return make()
    except _MadeBefore as made:
        name = made.volume_id
        return region.metadata.read(lambda reader: get_volume(reader, region.account_id, name))


def note_made(txn: Transaction, region: Region, use: TokenUse | None, volume_id: VolumeId) -> None:
    """Remember what the request made; undoes the transaction if it was made meanwhile."""
    _refuse_made_before(txn, use)
    if use is not None:
        note_answer(txn, use, {"volume_id": volume_id}, region.clock.now_ns())


def _refuse_made_before(reader: Reader, use: TokenUse | None) -> None:
    answer = find_answer(reader, use) if use is not None else None
    if answer is not None:
        raise _MadeBefore(answer["volume_id"])
