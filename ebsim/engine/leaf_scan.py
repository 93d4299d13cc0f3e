"""Comparing one leaf's worth of a source with the parent's leaf, and storing what differs.

This is where a snapshot's time goes: 128 blocks are read, 4 MiB at a time so that a block
is still in the processor's cache when it is hashed, and compared with the parent's
fingerprints.  A block that fits stops there.
"""

import mmap
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from ebsim.blockmap.geometry import FAN_OUT, FAN_OUT_BITS
from ebsim.blockmap.node_format import EMPTY_LEAF, Leaf, decode_node, encode_node, slots_of
from ebsim.chunkstore.chunk_index import find_node_rows, find_numbers
from ebsim.chunkstore.chunk_reader import ChunkReader
from ebsim.chunkstore.chunk_writer import ChunkWriter
from ebsim.chunkstore.node_commit import NewNode
from ebsim.chunkstore.pack_format import Kind
from ebsim.chunkstore.rows import Holder
from ebsim.content.digest import block_digest, node_digest
from ebsim.content.fingerprint import (
    FINGERPRINT_SIZE,
    fingerprint,
    is_zeros,
    zero_fingerprint,
)
from ebsim.errors import ChunkCorrupt
from ebsim.ids import Digest, SnapshotId
from ebsim.metadata.transactions import Metadata, Reader
from ebsim.units import MIB

_READ_SIZE = 4 * MIB
_SAMPLED_SHARE = 1 / 256

ReadInto = Callable[[memoryview, int], None]
"""Fills the buffer from a byte offset of the disk on."""


class FingerprintLied(Exception):
    """A block's fingerprint fitted the parent's, and its digest does not."""

    def __init__(self, block_index: int) -> None:
        super().__init__(f"block {block_index} changed under its fingerprint.")
        self.block_index = block_index


@dataclass(frozen=True, slots=True)
class LeafTask:
    """What to do for one leaf.

    Attributes:
        parent: The parent's leaf, ``None`` where it has none.
        base: The leaf to compare with: the parent's, or one that an interrupted snapshot
            of the volume had finished.
        read_mask: The slots to read.
        clear_mask: The slots known to be zeros, unread.  Slots in neither mask stay as
            they are in *base*.
    """

    leaf_index: int
    parent: Digest | None
    base: Digest | None
    read_mask: int
    clear_mask: int


@dataclass(slots=True)
class LeafResult:
    """What became of a leaf.

    Attributes:
        digest: The new leaf, ``None`` where no block is present.
        is_changed: Whether it differs from the parent's.
        replaced: Chunk numbers of the parent's blocks that are no longer referred to, where
            no new leaf carries them.
    """

    leaf_index: int
    digest: Digest | None
    is_changed: bool
    read_bytes: int = 0
    changed_block_count: int = 0
    block_count_change: int = 0
    replaced: Sequence[int] = ()


@dataclass(slots=True)
class _Base:
    """A leaf to compare with, as the store knows it."""

    digest: Digest | None = None
    bitmap: int = 0
    numbers: dict[int, int] = field(default_factory=dict)
    fingerprints: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Found:
    """What the scan of a leaf found, by slot."""

    fingerprints: dict[int, bytes] = field(default_factory=dict)
    changes: dict[int, tuple[Digest, int] | None] = field(default_factory=dict)
    changed_block_count: int = 0
    read_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """What holds for the whole snapshot.

    Attributes:
        damaged: Chunk numbers known to be damaged: their blocks are stored again.
        rehash: Compare every block by digest, and believe no fingerprint.
    """

    snapshot_id: SnapshotId
    generation: int
    block_size: int
    seed: int
    rehash: bool
    damaged: frozenset[int]


class LeafScanner:
    """Scans leaves for one snapshot.  ``scan`` runs in many threads at once."""

    def __init__(
        self,
        settings: ScanSettings,
        read_into: ReadInto,
        *,
        metadata: Metadata,
        chunks: ChunkReader,
        writer: ChunkWriter,
        random: Random,
    ) -> None:
        self._settings = settings
        self._read_into = read_into
        self._metadata = metadata
        self._chunks = chunks
        self._writer = writer
        self._random = random
        self._zero = zero_fingerprint(settings.block_size, settings.seed)
        self._blocks_per_read = min(max(_READ_SIZE // settings.block_size, 1), FAN_OUT)
        self._buffers = threading.local()

    def scan(self, task: LeafTask) -> LeafResult:
        """Do *task*: read, compare, store what is new.

        Raises:
            FingerprintLied: a sampled block shows that fingerprints cannot be believed.
        """
        base = self._metadata.read(lambda reader: _load_base(reader, task.base))
        leaf = _LeafInScan(self._chunks, task.leaf_index, base)
        for slot in slots_of(task.clear_mask & base.bitmap):
            leaf.clear(slot)
        for first, count in _runs(task.read_mask, self._blocks_per_read):
            self._scan_run(leaf, first, count)
        return self._finish(task, leaf)

    def _scan_run(self, leaf: "_LeafInScan", first: int, count: int) -> None:
        """Read *count* blocks from slot *first* on, and compare each."""
        size, seed = self._settings.block_size, self._settings.seed
        views, whole = self._views(count)
        self._read_into(whole, ((leaf.leaf_index << FAN_OUT_BITS) + first) * size)
        leaf.found.read_bytes += len(whole)
        base, found = leaf.base, leaf.found
        known = {} if self._settings.rehash else base.fingerprints
        differing = []
        for slot, block in enumerate(views, first):
            mark = fingerprint(block, seed)
            if known.get(slot) == mark:
                self._believe(leaf, slot, block)
            elif mark == self._zero and is_zeros(block):
                leaf.clear(slot)
            else:
                if base.fingerprints.get(slot) != mark:
                    found.fingerprints[slot] = mark
                differing.append((slot, block))
        if differing:
            self._store_differing(leaf, differing)

    def _believe(self, leaf: "_LeafInScan", slot: int, block: memoryview) -> None:
        """A block whose fingerprint fits; sampled, and stored again if its chunk is damaged."""
        is_damaged = leaf.base.numbers[slot] in self._settings.damaged
        if is_damaged or self._random.random() < _SAMPLED_SHARE:
            digest, generation = leaf.base_entry(slot)
            if block_digest(block) != digest:
                raise FingerprintLied((leaf.leaf_index << FAN_OUT_BITS) + slot)
            if is_damaged:
                self._writer.put_blocks([(digest, block)])
                leaf.found.changes[slot] = (digest, generation)

    def _store_differing(
        self, leaf: "_LeafInScan", blocks: Sequence[tuple[int, memoryview]]
    ) -> None:
        """Store blocks whose fingerprints differ, or that have none to compare."""
        stored = []
        for slot, block in blocks:
            digest = block_digest(block)
            entry = leaf.base_entry(slot) if leaf.base.bitmap >> slot & 1 else None
            if entry is None or digest != entry[0]:
                leaf.found.changes[slot] = (digest, self._settings.generation)
                leaf.found.changed_block_count += 1
            elif leaf.base.numbers[slot] in self._settings.damaged:
                leaf.found.changes[slot] = entry
            else:
                continue
            stored.append((digest, block))
        if stored:
            self._writer.put_blocks(stored)

    def _views(self, count: int) -> tuple[Sequence[memoryview], memoryview]:
        """This thread's buffer as *count* blocks, and as a whole."""
        try:
            views, whole = self._buffers.views, self._buffers.whole
        except AttributeError:
            size = self._settings.block_size
            # Page-aligned: where a bytearray begins, 16 bytes into a page, the kernel's
            # copy out of the page cache runs at a quarter of the speed (4K aliasing).
            whole = memoryview(mmap.mmap(-1, self._blocks_per_read * size))
            views = [whole[i * size : (i + 1) * size] for i in range(self._blocks_per_read)]
            self._buffers.views, self._buffers.whole = views, whole
        return views[:count], whole[: count * self._settings.block_size]

    def _finish(self, task: LeafTask, scanned: "_LeafInScan") -> LeafResult:
        """The leaf that the scan makes of the base, stored if it is new to this snapshot."""
        base, found = scanned.base, scanned.found
        result = LeafResult(task.leaf_index, base.digest, task.base != task.parent)
        result.read_bytes = found.read_bytes
        result.changed_block_count = found.changed_block_count
        if not found.changes and not found.fingerprints and not result.is_changed:
            return result
        parent = base
        if task.base != task.parent:
            parent = self._metadata.read(lambda reader: _load_base(reader, task.parent))
        leaf = scanned.leaf.with_changes(found.changes)
        bitmap = leaf.bitmap if leaf else 0
        result.block_count_change = bitmap.bit_count() - parent.bitmap.bit_count()
        if leaf is None:
            result.digest = None
            result.is_changed = parent.digest is not None
            result.changed_block_count = parent.bitmap.bit_count()
            result.replaced = list(parent.numbers.values())
            return result
        node = self._new_node(task.leaf_index, leaf, scanned, parent)
        self._writer.put_node(node)
        if task.base != task.parent:
            cleared = (parent.bitmap & ~leaf.bitmap).bit_count()
            result.changed_block_count = len(node.added) + cleared
        result.digest = node.digest
        result.is_changed = node.digest != task.parent
        return result

    def _new_node(
        self, leaf_index: int, leaf: Leaf, scanned: "_LeafInScan", parent: _Base
    ) -> NewNode:
        base, found = scanned.base, scanned.found
        slots = list(slots_of(leaf.bitmap))
        digests = leaf.children
        children = array("Q", bytes(8 * len(slots)))
        unknown, marks = [], []
        block_indexes = {}
        for position, slot in enumerate(slots):
            if slot in found.changes or slot not in base.numbers:
                unknown.append((position, digests[position]))
                block_indexes[digests[position]] = (leaf_index << FAN_OUT_BITS) + slot
            else:
                children[position] = base.numbers[slot]
            marks.append(found.fingerprints.get(slot) or base.fingerprints.get(slot) or b"")
        fingerprints = b"".join(marks)
        if len(fingerprints) != len(slots) * FINGERPRINT_SIZE:
            fingerprints = b""
        encoded = encode_node(leaf)
        kept = {
            slot
            for position, slot in enumerate(slots)
            if children[position] and parent.numbers.get(slot) == children[position]
        }
        return NewNode(
            digest=node_digest(encoded),
            kind=Kind.LEAF,
            encoded=encoded,
            bitmap=leaf.bitmap.to_bytes(FAN_OUT // 8, "little"),
            children=children,
            unknown=unknown,
            fingerprints=fingerprints,
            holder=Holder(self._settings.snapshot_id, 0, leaf_index),
            block_indexes=block_indexes,
            added=[p for p, slot in enumerate(slots) if slot not in kept],
            replaced=[number for slot, number in parent.numbers.items() if slot not in kept],
        )


class _LeafInScan:
    """A leaf being scanned: what to compare with, and what was found."""

    def __init__(self, chunks: ChunkReader, leaf_index: int, base: _Base) -> None:
        self._chunks = chunks
        self.leaf_index = leaf_index
        self.base = base
        self.found = _Found()
        self._leaf: Leaf | None = None
        self._entries: Mapping[int, tuple[Digest, int]] = {}

    @property
    def leaf(self) -> Leaf:
        """The base leaf, loaded when it is first asked for."""
        if self._leaf is None:
            self._leaf = EMPTY_LEAF
            if self.base.digest is not None:
                node = decode_node(bytes(self._chunks.read(self.base.digest)))
                assert isinstance(node, Leaf), "a leaf task names leaves"
                self._leaf = node
        return self._leaf

    def base_entry(self, slot: int) -> tuple[Digest, int]:
        """Digest and generation in the base leaf of a slot that is present there."""
        if not self._entries:
            self._entries = self.leaf.entries()
        return self._entries[slot]

    def clear(self, slot: int) -> None:
        """A block of zeros is absent."""
        if self.base.bitmap >> slot & 1:
            self.found.changes[slot] = None
            self.found.changed_block_count += 1


def _load_base(reader: Reader, digest: Digest | None) -> _Base:
    if digest is None:
        return _Base()
    number = find_numbers(reader, [digest]).get(digest, 0)
    (row,) = find_node_rows(reader, [number])
    if row is None:
        raise ChunkCorrupt(
            digest=digest, pack="?", offset_bytes=0, found="the node has no row of edges"
        )
    bitmap = int.from_bytes(row.bitmap, "little")
    slots = range(FAN_OUT) if len(row.children) == FAN_OUT else list(slots_of(bitmap))
    marks = row.fingerprints
    starts = range(0, len(marks), FINGERPRINT_SIZE)
    return _Base(
        digest,
        bitmap,
        dict(zip(slots, row.children, strict=True)),
        {s: marks[at : at + FINGERPRINT_SIZE] for s, at in zip(slots, starts, strict=False)},
    )


def _runs(mask: int, longest: int) -> Iterator[tuple[int, int]]:
    """Yield the runs of bits set in *mask* as (first, count), none longer than *longest*."""
    slot = 0
    while mask:
        skip = (mask & -mask).bit_length() - 1
        mask >>= skip
        slot += skip
        length = (~mask & (mask + 1)).bit_length() - 1
        for first in range(slot, slot + length, longest):
            yield first, min(longest, slot + length - first)
        mask >>= length
        slot += length
