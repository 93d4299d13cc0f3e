import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.blockmap.geometry import BLOCKS_MAX, FAN_OUT, GEOMETRY, Geometry
from ebsim.blockmap.node_format import (
    EMPTY_LEAF,
    GENERATION_MAX,
    Inner,
    Leaf,
    Node,
    NodeMalformed,
    decode_node,
    encode_node,
    inner_node,
    slots_of,
)
from ebsim.errors import UnsupportedFormat
from ebsim.ids import Digest
from tests.blockmap.map_models import SMALL, Entry, entry, geometries

digests = st.binary(min_size=32, max_size=32).map(Digest)
generations = st.integers(0, GENERATION_MAX)


def slots(geometry: Geometry, level: int) -> st.SearchStrategy[int]:
    return st.integers(0, geometry.slots_at(level) - 1)


def leaf_models(geometry: Geometry) -> st.SearchStrategy[dict[int, Entry]]:
    return st.dictionaries(slots(geometry, 0), st.tuples(digests, generations), max_size=20)


def leaf_of(model: dict[int, Entry]) -> Leaf:
    return EMPTY_LEAF.with_changes(model) or EMPTY_LEAF


@st.composite
def nodes(draw: st.DrawFn, geometry: Geometry) -> Node:
    level = draw(st.integers(0, geometry.level_max))
    if level == 0:
        return leaf_of(draw(leaf_models(geometry)))
    children = draw(st.dictionaries(slots(geometry, level), digests, min_size=1, max_size=20))
    node = inner_node(level, children)
    assert node is not None
    return node


@pytest.mark.slow
@given(st.data(), geometries)
def test_a_node_reads_back_as_it_was_written(data: st.DataObject, geometry: Geometry) -> None:
    node = data.draw(nodes(geometry))
    assert decode_node(encode_node(node, geometry), geometry) == node


def test_a_leaf_lies_in_bytes_as_the_format_says() -> None:
    digest_a, digest_b = bytes(range(32)), bytes(range(32, 64))
    leaf = leaf_of({127: (Digest(digest_b), 1 << 40), 1: (Digest(digest_a), 7)})
    assert encode_node(leaf) == (
        b"\x00\x01\x00\x00"
        + b"\x02" + bytes(14) + b"\x80"
        + digest_a + digest_b
        + b"\x07" + bytes(7) + b"\x00\x00\x00\x00\x00\x01\x00\x00"
    )  # fmt: skip


def test_an_inner_node_lies_in_bytes_as_the_format_says() -> None:
    digest = bytes(range(32))
    node = inner_node(2, {8: Digest(digest)})
    assert node is not None
    assert encode_node(node) == b"\x02\x01\x00\x00" + b"\x00\x01" + bytes(14) + digest


def test_the_fan_out_is_that_of_the_format() -> None:
    assert FAN_OUT == 128
    assert GEOMETRY.level_max == 4
    assert GEOMETRY.slots_at(4) * 128**4 == BLOCKS_MAX == 2**34


# Bytes that get past the header, and any bytes.
_junk = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda level, presence, rest: bytes((level, 1, 0, 0, presence)) + rest,
        st.integers(0, 12),
        st.integers(0, 255),
        st.sampled_from(range(330)).flatmap(lambda n: st.binary(min_size=n, max_size=n)),
    ),
)


@given(_junk, geometries)
def test_any_bytes_are_a_node_or_are_refused(junk: bytes, geometry: Geometry) -> None:
    """What decodes at all encodes to the very same bytes: there is one encoding."""
    try:
        node = decode_node(junk, geometry)
    except (NodeMalformed, UnsupportedFormat):
        return
    assert encode_node(node, geometry) == junk


@given(st.data(), geometries)
def test_bytes_near_a_node_are_that_other_node_or_are_refused(
    data: st.DataObject, geometry: Geometry
) -> None:
    """Every flipped bit gives another node, never the same one, or is refused."""
    node = data.draw(nodes(geometry))
    encoded = bytearray(encode_node(node, geometry))
    bit = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    try:
        other = decode_node(bytes(encoded), geometry)
    except (NodeMalformed, UnsupportedFormat):
        return
    assert other != node
    assert encode_node(other, geometry) == encoded


@pytest.mark.parametrize("node", [leaf_of({3: entry(1)}), Inner(1, 1 << 3, entry(1)[0])])
def test_every_flipped_bit_of_a_header_is_refused(node: Node) -> None:
    """With one entry no header of the same length but this one is canonical.

    The exceptions are other nodes altogether: the level of an inner node may be another
    one, and is then refused by whoever knows which level belongs there.
    """
    encoded = encode_node(node)
    accepted = []
    for bit in range(20 * 8):
        damaged = bytearray(encoded)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            decode_node(bytes(damaged))
        except (NodeMalformed, UnsupportedFormat):
            continue
        accepted.append(bit)
    assert accepted == ([1] if isinstance(node, Inner) else [])


@pytest.mark.parametrize("cut", [-1, 1])
@given(data=st.data())
def test_a_node_of_another_length_is_refused(cut: int, data: st.DataObject) -> None:
    encoded = encode_node(data.draw(nodes(SMALL)), SMALL)
    damaged = encoded[:cut] if cut < 0 else encoded + bytes(cut)
    with pytest.raises(NodeMalformed):
        decode_node(damaged, SMALL)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"\x00\x01\x00\x00" + bytes(15), "19 bytes, expected at least 20"),
        (b"\x00\x00\x00\x00" + bytes(16), "version 0"),
        (b"\x00\x01\x01\x00" + bytes(16), "reserved field 0x0001"),
        (b"\x05\x01\x00\x00" + bytes(16), "level 5, expected at most 4"),
        (b"\x01\x01\x00\x00" + bytes(16), "no children at level 1"),
        (b"\x04\x01\x00\x00" + bytes(8) + b"\x01" + bytes(7 + 32), "slot 64 at level 4"),
        (b"\x00\x01\x00\x00\x01" + bytes(15 + 39), "59 bytes, expected 60"),
    ],
)
def test_a_malformed_node_is_refused_with_the_reason(data: bytes, found: str) -> None:
    with pytest.raises(NodeMalformed, match=found):
        decode_node(data)


def test_a_node_of_a_later_version_is_called_that() -> None:
    with pytest.raises(UnsupportedFormat, match="format version 2"):
        decode_node(b"\x00\x02\x00\x00" + bytes(16))


@pytest.mark.slow
@given(st.data(), geometries)
def test_a_changed_leaf_holds_what_its_model_holds(
    data: st.DataObject, geometry: Geometry
) -> None:
    model = data.draw(leaf_models(geometry))
    changes = data.draw(
        st.dictionaries(slots(geometry, 0), st.none() | st.tuples(digests, generations))
    )
    leaf = leaf_of(model).with_changes(changes)

    expected = {slot: value for slot, value in {**model, **changes}.items() if value is not None}
    if leaf is None:
        assert not expected
        return
    assert list(leaf.entries().items()) == sorted(expected.items())
    assert [leaf.get(slot) for slot in range(geometry.fan_out)] == [
        expected.get(slot) for slot in range(geometry.fan_out)
    ]
    assert list(leaf.children) == [expected[slot][0] for slot in sorted(expected)]


@given(st.data())
def test_an_inner_node_holds_what_its_model_holds(data: st.DataObject) -> None:
    model = data.draw(st.dictionaries(slots(GEOMETRY, 1), digests, min_size=1, max_size=20))
    node = inner_node(1, model)
    assert node is not None
    assert [node.get(slot) for slot in range(128)] == [model.get(slot) for slot in range(128)]
    assert list(node.entries().items()) == sorted(model.items())


@given(st.sets(st.integers(0, 127)))
def test_the_slots_of_a_bitmap_are_its_set_bits(bits: set[int]) -> None:
    assert list(slots_of(sum(1 << bit for bit in bits))) == sorted(bits)


def test_a_leaf_that_loses_its_last_block_is_no_leaf() -> None:
    assert leaf_of({5: entry(1)}).with_changes({5: None}) is None
    assert inner_node(1, {}) is None
