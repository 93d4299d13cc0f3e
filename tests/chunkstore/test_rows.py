"""Rows: what is encoded reads back, and sorts as its numbers do."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.chunkstore.chunk_index import find_locations, set_locations
from ebsim.chunkstore.pack_format import Kind
from ebsim.chunkstore.rows import (
    CHUNK_NUMBER_MAX,
    DeadExtent,
    Holder,
    Location,
    NodeRow,
    PackRow,
    dead_key,
    decode_chunk_number,
    decode_dead,
    decode_hold,
    decode_holder,
    decode_location,
    decode_node_row,
    decode_pack,
    encode_chunk_number,
    encode_dead,
    encode_hold,
    encode_location,
    encode_node_row,
    encode_pack,
    hold_prefix,
    number_key,
    pack_key,
)
from ebsim.errors import MetadataCorrupt
from ebsim.metadata.memory_metadata import MemoryMetadata
from ebsim.metadata.transactions import Table

numbers = st.integers(1, CHUNK_NUMBER_MAX)
u32 = st.integers(0, (1 << 32) - 1)
locations = st.builds(
    Location,
    st.integers(1, (1 << 32) - 1),
    u32,
    st.integers(0, (1 << 24) - 1),
    st.sampled_from([int(kind) for kind in Kind]),
    st.integers(0, 15),
)
owners = st.from_regex(r"(snap|reader)-[0-9a-f]{1,17}", fullmatch=True)
holders = st.builds(Holder, owners, st.integers(0, 255), st.integers(0, (1 << 64) - 1))


@given(numbers)
def test_a_chunk_number_reads_back(number):
    assert decode_chunk_number(encode_chunk_number(number)) == number
    assert len(encode_chunk_number(number)) == 5


@given(st.none() | locations, st.none() | locations)
def test_locations_read_back_from_their_slots(first, second):
    page = encode_location(first) + encode_location(second)
    assert (decode_location(page, 0), decode_location(page, 1)) == (first, second)


@pytest.mark.slow
@given(
    st.lists(st.dictionaries(st.integers(1, 200), st.none() | locations, max_size=8), max_size=5)
)
def test_locations_kept_in_pages_are_those_of_a_dictionary(steps):
    metadata = MemoryMetadata()
    model: dict[int, Location] = {}
    for changes in steps:
        metadata.run(lambda txn: set_locations(txn, changes))  # noqa: B023 (called at once)
        model = {n: at for n, at in {**model, **changes}.items() if at is not None}
        assert metadata.read(lambda reader: find_locations(reader, range(201))) == model
    pages = metadata.read(lambda reader: reader.scan(Table.LOCATIONS, limit=99))
    assert len(pages) == len({number // 64 for number in model})


@given(st.builds(PackRow, st.integers(0, 1 << 26), st.integers(0, 1 << 26), u32, st.text()))
def test_a_pack_row_reads_back(row):
    assert decode_pack(encode_pack(row)) == row


@given(st.builds(DeadExtent, u32, u32, u32, st.booleans()))
def test_a_dead_extent_reads_back(extent):
    assert decode_dead(*encode_dead(extent)) == extent


@given(holders)
def test_a_holder_reads_back_and_lies_under_its_owner(holder):
    assert decode_holder(holder.key()) == holder
    prefix = hold_prefix(holder.owner)
    assert prefix <= holder.key() < prefix + b"\xff" * 10


@given(owners, owners, st.integers(0, 255), st.integers(0, (1 << 64) - 1))
def test_no_owners_holds_lie_among_anothers(one, other, level, place):
    prefix = hold_prefix(one)
    among = prefix <= Holder(other, level, place).key() < prefix + b"\xff" * 10
    assert among == (one == other)


@given(numbers, st.binary(min_size=32, max_size=32))
def test_a_hold_reads_back(number, digest):
    assert decode_hold(encode_hold(number, digest)) == (number, digest)


@given(numbers, numbers)
def test_keys_sort_as_their_numbers(one, other):
    assert (number_key(one) < number_key(other)) == (one < other)


@given(st.tuples(u32, u32), st.tuples(u32, u32))
def test_keys_of_dead_extents_sort_by_pack_and_offset(one, other):
    assert (dead_key(*one) < dead_key(*other)) == (one < other)
    assert (pack_key(one[0]) < pack_key(other[0])) == (one[0] < other[0])


@st.composite
def node_rows(draw) -> NodeRow:
    children = draw(st.lists(numbers, max_size=128))
    marked = children and draw(st.booleans())
    marks = draw(st.binary(min_size=16, max_size=16)) * len(children) if marked else b""
    bitmap = draw(st.binary(min_size=16, max_size=16))
    return NodeRow(draw(st.sampled_from([1, 2])), bitmap, array("Q", children), marks)


@given(node_rows())
def test_a_node_row_reads_back(row):
    assert decode_node_row(encode_node_row(row)) == row


def test_a_full_leafs_row_fits_a_page_of_lmdb():
    row = NodeRow(1, b"\xff" * 16, array("Q", range(128)), bytes(16 * 128))
    assert len(encode_node_row(row)) <= 3100


@pytest.mark.slow
@given(node_rows(), st.data())
def test_a_node_row_cut_short_or_longer_is_refused(row, data):
    raw = encode_node_row(row)
    size = data.draw(st.integers(0, len(raw) + 16).filter(lambda size: size != len(raw)))
    with pytest.raises(MetadataCorrupt):
        decode_node_row(raw[:size] + bytes(max(0, size - len(raw))))
