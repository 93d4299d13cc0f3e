"""A snapshot as a disk to analyse: its present blocks are its extents."""

from collections.abc import Iterator

from ebsim.blockmap.geometry import FAN_OUT_BITS
from ebsim.blockmap.node_format import slots_of
from ebsim.engine.open_snapshot import OpenedSnapshot
from ebsim.engine.region import Region
from ebsim.sources.source import Extent
from ebsim.volumes.origin import Origin


class SnapshotSource:
    """The disk of *opened*.  For one thread; *opened* must stay open."""

    def __init__(self, region: Region, opened: OpenedSnapshot) -> None:
        root = opened.snapshot.root
        assert root is not None, "a snapshot that is open is completed"
        self._origin = Origin(root, region.chunks)
        self._opened = opened

    @property
    def size_bytes(self) -> int:
        return self._opened.snapshot.size_bytes

    def extents(self, start: int = 0) -> Iterator[Extent]:
        size = self._opened.block_size
        current: Extent | None = None
        first_leaf = start // size >> FAN_OUT_BITS
        for leaf_index, _ in self._origin.leaves(first_leaf):
            for slot in slots_of(self._origin.mask(leaf_index)):
                at = ((leaf_index << FAN_OUT_BITS) + slot) * size
                stop = min(at + size, self.size_bytes)
                if stop <= start:
                    continue
                if current is not None and current.stop == at:
                    current = Extent(current.start, stop)
                    continue
                if current is not None:
                    yield current
                current = Extent(max(at, start), stop)
        if current is not None:
            yield current

    def read_into(self, buffer: memoryview, offset_bytes: int) -> None:
        inside = max(0, min(len(buffer), self.size_bytes - offset_bytes))
        self._opened.device.read_at(offset_bytes, buffer[:inside])
        if inside < len(buffer):
            buffer[inside:] = bytes(len(buffer) - inside)

    def changed_since_opened(self) -> str | None:
        """Never: a snapshot does not change."""
        return None

    def signature(self, offset_bytes: int, stop: int) -> bytes:
        """What names the content of a range: the digests of the chunks it is made of.

        Ranges that begin and end at a block's border, and have equal signatures, hold the
        same bytes, in whatever snapshots and places.
        """
        size = self._opened.block_size
        indexes = range(offset_bytes // size, -(-stop // size))
        names = (self._origin.block_digest(index) or b"\0" for index in indexes)
        return size.to_bytes(4, "little") + b"".join(names)
