"""What has been in the recycle bin for its time.

A module of its own: most commands only ask whether there is any, and have no use for what
deleting it needs.
"""

from ebsim.engine.region import Region
from ebsim.metadata.transactions import Table

_ROWS_PER_STEP = 256


def overdue_in_bin(region: Region, after: bytes = b"") -> list[bytes]:
    """The next rows behind *after* of what is to be deleted for good; empty at the end.

    Cost: one look-up.
    """
    stop = (region.clock.now_ns() + 1).to_bytes(8, "big")
    start = after + b"\0" if after else b""
    rows = region.metadata.read(
        lambda reader: reader.scan(Table.RECYCLE_BIN, start, stop, limit=_ROWS_PER_STEP)
    )
    return [key for key, _ in rows]
