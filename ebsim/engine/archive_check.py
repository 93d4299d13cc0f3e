"""Whether an archive is the whole of its snapshot, and which blocks it has lost if not."""

import os
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from ebsim.backends.backend import Backend
from ebsim.blockmap.geometry import FAN_OUT_BITS
from ebsim.blockmap.node_format import Inner, Leaf, NodeMalformed, decode_node
from ebsim.catalog.storage_tier import Archive
from ebsim.chunkstore.archive_reader import ArchiveReader
from ebsim.engine.check_report import BlockRange
from ebsim.engine.ordered_work import in_threads
from ebsim.errors import IntegrityError
from ebsim.ids import Digest

_LEAVES_WAITING_PER_THREAD = 3


class ArchiveFault(NamedTuple):
    """Something wrong with an archive.

    Attributes:
        where: The pack, or the chunk.
        lost: The blocks that cannot be read for it; ``None`` where none are lost.
    """

    where: str
    what: str
    lost: BlockRange | None


class _Leaf(NamedTuple):
    digest: Digest
    place: int


def archive_faults(
    backend: Backend, archive: Archive, share: float, random: Random
) -> Iterator[ArchiveFault]:
    """Yield what is wrong with *archive*: every node is read, every block looked for.

    A *share* of the blocks, from 0 to 1, is read as well and proved by digest.
    """
    reader = ArchiveReader(backend, archive.pack_names())
    for name, complaint in reader.complaints.items():
        yield ArchiveFault(name, complaint, None)
    walk = _Walk(reader, share, random)
    threads = len(os.sched_getaffinity(0))
    for faults in in_threads(
        walk.leaf_faults,
        walk.leaves(Digest(bytes.fromhex(archive.root))),
        threads,
        _LEAVES_WAITING_PER_THREAD * threads,
    ):
        yield from faults
    yield from walk.faults


class _Walk:
    """One look at one archive; ``faults`` are those of inner nodes."""

    def __init__(self, reader: ArchiveReader, share: float, random: Random) -> None:
        self._reader = reader
        self._share = share
        self._random = random
        self.faults: list[ArchiveFault] = []

    def leaves(self, root: Digest) -> Iterator[_Leaf]:
        """Yield the leaves below *root*; inner nodes that cannot be read become faults."""
        waiting: list[tuple[Digest, int | None, int]] = [(root, None, 0)]
        while waiting:
            digest, level, index = waiting.pop()
            if level == 0:
                yield _Leaf(digest, index)
                continue
            try:
                node = decode_node(bytes(self._reader.read(digest)))
                if level is not None and node.level != level:
                    raise NodeMalformed(digest, f"level {node.level} where {level} belongs")
            except IntegrityError as error:
                # The root may be of any level: all blocks there can be are below it.
                shift = FAN_OUT_BITS * ((4 if level is None else level) + 1)
                lost = BlockRange(index << shift, (index + 1) << shift)
                self.faults.append(ArchiveFault(_name(digest), str(error), lost))
                continue
            if isinstance(node, Leaf):
                yield _Leaf(digest, index)
                continue
            first = index << FAN_OUT_BITS
            for slot, child in reversed(node.entries().items()):
                waiting.append((child, node.level - 1, first + slot))

    def leaf_faults(self, leaf: _Leaf) -> list[ArchiveFault]:
        """What is wrong with a leaf and its blocks."""
        first = leaf.place << FAN_OUT_BITS
        try:
            node = decode_node(bytes(self._reader.read(leaf.digest)))
        except IntegrityError as error:
            lost = BlockRange(first, first + (1 << FAN_OUT_BITS))
            return [ArchiveFault(_name(leaf.digest), str(error), lost)]
        if isinstance(node, Inner):
            lost = BlockRange(first, first + (1 << FAN_OUT_BITS))
            return [ArchiveFault(_name(leaf.digest), "an inner node where a leaf belongs", lost)]
        faults = []
        for slot, (digest, _) in node.entries().items():
            what = self._block_fault(digest)
            if what:
                lost = BlockRange(first + slot, first + slot + 1)
                faults.append(ArchiveFault(_name(digest), what, lost))
        return faults

    def _block_fault(self, digest: Digest) -> str:
        if self._random.random() >= self._share:
            return "" if self._reader.find([digest])[0] is not None else "it is in no pack"
        try:
            self._reader.read(digest)
        except IntegrityError as error:
            return str(error)
        return ""


def _name(digest: Digest) -> str:
    return f"chunk {digest.hex()[:16]}"
