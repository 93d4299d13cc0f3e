"""The difference of two block maps.

One walk goes down both trees at once and passes over whatever has the same digest on
both sides, unread; so its cost follows the paths to what differs and not the size of
the maps.  The maps may differ in height and lie in different stores: equal content has
equal digests everywhere.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.node_format import EMPTY_LEAF, Leaf
from ebsim.ids import Digest


class ChangedBlock(NamedTuple):
    """A block that differs: its digest on either side, ``None`` where it is absent."""

    block_index: int
    first: Digest | None
    second: Digest | None


class ChangedLeaf(NamedTuple):
    """A leaf that differs: an empty one stands for one that is absent."""

    leaf_index: int
    first: Leaf
    second: Leaf


def changed_blocks(first: BlockMap, second: BlockMap, start: int = 0) -> Iterator[ChangedBlock]:
    """Yield the blocks from *start* on whose content differs, by rising index.

    A block that is absent differs from one of zeros that is present.
    """
    for block in rewritten_blocks(first, second, start):
        if block.first != block.second:
            yield block


def rewritten_blocks(first: BlockMap, second: BlockMap, start: int = 0) -> Iterator[ChangedBlock]:
    """Yield the blocks from *start* on that were written between the two, by rising index.

    That is, those whose write generation differs: rewriting the bytes that were there
    counts.  Only maps of one lineage have comparable generations; so that no difference
    in content can hide behind generations that are equal by chance, a block whose digest
    differs is yielded as well.

    Source:
        EBS ``ListChangedBlocks``:
        https://docs.aws.amazon.com/ebs/latest/APIReference/API_ListChangedBlocks.html
    """
    fan_out_bits = first.geometry.fan_out_bits
    start_leaf, _ = first.geometry.split(start)
    for leaf in changed_leaves(first, second, start_leaf):
        before, after = leaf.first.entries(), leaf.second.entries()
        for slot in sorted(before.keys() | after.keys()):
            index = (leaf.leaf_index << fan_out_bits) + slot
            old, new = before.get(slot), after.get(slot)
            if old != new and index >= start:
                yield ChangedBlock(index, old and old[0], new and new[0])


def changed_leaves(first: BlockMap, second: BlockMap, start: int = 0) -> Iterator[ChangedLeaf]:
    """Yield the leaves from leaf *start* on that differ, by rising index.

    Loads the nodes that differ and are not wholly before *start*, each once, and both
    roots; equal roots load nothing.
    """
    assert first.geometry == second.geometry, "two maps of one format"
    if first.root == second.root:
        return
    level = max(first.root_node.level, second.root_node.level)
    if not first.geometry.node_index(start, level):
        yield from _Walk(first, second, start).below(level, 0, first.root, second.root)


class _Walk:
    """A walk down two maps, from leaf *start* on."""

    def __init__(self, first: BlockMap, second: BlockMap, start: int) -> None:
        self._first = first
        self._second = second
        self._start = start

    def below(
        self, level: int, index: int, first: Digest | None, second: Digest | None
    ) -> Iterator[ChangedLeaf]:
        """The leaves that differ below node *index* of *level*, which is not the same."""
        if level == 0:
            yield ChangedLeaf(index, _leaf(self._first, first), _leaf(self._second, second))
            return
        geometry = self._first.geometry
        old, new = _children(self._first, first, level), _children(self._second, second, level)
        first_child = index << geometry.fan_out_bits
        start_child = geometry.node_index(self._start, level - 1)
        for slot in sorted(old.keys() | new.keys()):
            before, after = old.get(slot), new.get(slot)
            if before != after and first_child + slot >= start_child:
                yield from self.below(level - 1, first_child + slot, before, after)


def _children(block_map: BlockMap, digest: Digest | None, level: int) -> dict[int, Digest]:
    """The children of a node of *level*; a root of a lesser level is its own first child."""
    if digest is None:
        return {}
    if digest == block_map.root and level > block_map.root_node.level:
        return {0: digest}
    return block_map.inner(digest, level).entries()


def _leaf(block_map: BlockMap, digest: Digest | None) -> Leaf:
    return EMPTY_LEAF if digest is None else block_map.leaf(digest)
