"""What of a volume is loaded first: as it was asked for, and as it was needed before."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from ebsim.volumes.volume_folder import VolumeFolder


class HydrationOrder(NamedTuple):
    """What to load before everything else.

    Attributes:
        first: Ranges of blocks (start, stop).
        replay: Blocks, in the order in which they were needed before.
    """

    first: Sequence[tuple[int, int]] = ()
    replay: Sequence[int] = ()


def read_order(folder: VolumeFolder) -> HydrationOrder:
    """The order that was given when the volume was made."""
    first: list[tuple[int, int]] = []
    if folder.files.status(folder.hydrate_first) is not None:
        text = folder.hydrate_first.read_text(encoding="utf-8")
        first = [(start, stop) for start, stop in json.loads(text)["first"]]
    return HydrationOrder(first, list(folder.read_block_indexes(folder.hydrate_order)))
