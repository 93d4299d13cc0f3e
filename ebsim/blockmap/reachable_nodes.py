"""Every node that some roots reach: what a check recounts and a rebuild indexes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ebsim.blockmap.geometry import GEOMETRY, Geometry
from ebsim.blockmap.node_format import Inner, Node
from ebsim.blockmap.node_store import NodeStore, load_inner, load_leaf, load_root
from ebsim.errors import IntegrityError
from ebsim.ids import Digest


@dataclass(frozen=True, slots=True)
class ReachedNode:
    """A node, and what it holds references on: its ``children``, one for each."""

    digest: Digest
    node: Node


@dataclass(frozen=True, slots=True)
class UnreadableNode:
    """A node that could not be loaded; nothing below it was reached through it."""

    digest: Digest
    level: int | None
    """The level its parent says it has; ``None`` for a root."""
    error: IntegrityError


def reachable_nodes(
    roots: Iterable[Digest],
    store: NodeStore,
    is_new: Callable[[Digest], bool],
    geometry: Geometry = GEOMETRY,
) -> Iterator[ReachedNode | UnreadableNode]:
    """Yield the nodes reachable from *roots*, depth first and from the left.

    A parent comes before its children, and the leaves in the order of their blocks,
    which is the order in which packs hold them.

    Damage is yielded and not raised, so that one bad node does not hide the others;
    any other failure of the store is raised.  Holds a path of nodes.

    Args:
        roots: Roots of block maps.
        store: Where the nodes are.
        is_new: Called before a node is loaded, once for each time it is reached; answers
            whether to visit it.  The caller remembers what it has seen, in memory or not.
        geometry: The shape of the maps.
    """
    for root in roots:
        waiting: list[tuple[Digest, int | None]] = [(root, None)]
        while waiting:
            digest, level = waiting.pop()
            if not is_new(digest):
                continue
            try:
                node = _load(store, digest, level, geometry)
            except IntegrityError as error:
                yield UnreadableNode(digest, level, error)
                continue
            yield ReachedNode(digest, node)
            if isinstance(node, Inner):
                waiting += [(child, node.level - 1) for child in reversed(node.children)]


def _load(store: NodeStore, digest: Digest, level: int | None, geometry: Geometry) -> Node:
    if level is None:
        return load_root(store, digest, geometry)
    if level == 0:
        return load_leaf(store, digest, geometry)
    return load_inner(store, digest, level, geometry)
