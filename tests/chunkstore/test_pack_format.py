"""The pack format: what is written reads back, and no damaged bit passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.chunkstore.chunk_reader import verified_chunk, verified_payload
from ebsim.chunkstore.pack_format import (
    CHUNK_SIZE_MAX,
    ENTRY_SIZE,
    HEADER_SIZE,
    PACK_RECORDS_MAX,
    TRAILER_SIZE,
    Kind,
    PackDamaged,
    Record,
    decode_footer,
    decode_header,
    decode_trailer,
    encode_footer,
    encode_header,
)
from ebsim.content.compression import encode
from ebsim.content.digest import block_digest, node_digest
from ebsim.content.fingerprint import checksum

digests = st.binary(min_size=32, max_size=32)
payloads = st.binary(max_size=200)
sizes = st.integers(0, CHUNK_SIZE_MAX)
contents = st.lists(
    st.tuples(digests, st.binary(max_size=50), sizes, st.sampled_from(Kind)), max_size=12
)


def records_of(contents) -> list[Record]:
    """Records of *contents* as a pack would have them: each where the one before ends."""
    records, offset = [], 0
    for digest, payload, chunk_size, kind in contents:
        record = Record(digest, offset, len(payload), chunk_size, kind, 1)
        records.append(record)
        offset = record.stop
    return records


def read_footer(raw: bytes, pack_size: int) -> list[Record]:
    """The records that the bytes from the footer on list."""
    trailer = decode_trailer(raw[-TRAILER_SIZE:], pack_size)
    return decode_footer(raw[:-TRAILER_SIZE][-trailer.footer_size or len(raw) :], trailer)


@given(digests, payloads, sizes, st.sampled_from(Kind), st.integers(0, 1))
def test_a_header_reads_back_as_it_was_written(digest, payload, chunk_size, kind, codec):
    record = Record(digest, 4096, len(payload), chunk_size, kind, codec)
    header = encode_header(record, payload)
    assert len(header) == HEADER_SIZE
    assert decode_header(header, 4096) == (record, checksum(payload))


@given(contents)
def test_a_footer_reads_back_as_it_was_written(contents):
    records = records_of(contents)
    raw = encode_footer(records)
    size = (records[-1].stop if records else 0) + len(raw)
    assert len(raw) == ENTRY_SIZE * len(records) + TRAILER_SIZE
    assert read_footer(raw, size) == records


def flipped(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_every_flipped_bit_of_a_header_is_refused():
    header = encode_header(Record(block_digest(b"x"), 0, 1, 1, Kind.BLOCK, 0), b"x")
    for bit in range(8 * len(header)):
        with pytest.raises(PackDamaged):
            decode_header(flipped(header, bit), 0)


def test_every_flipped_bit_of_footer_and_trailer_is_refused():
    records = records_of([(block_digest(bytes([n])), b"abc", 3, Kind.BLOCK) for n in range(4)])
    raw = encode_footer(records)
    size = records[-1].stop + len(raw)
    assert read_footer(raw, size) == records
    for bit in range(8 * len(raw)):
        with pytest.raises(PackDamaged):
            read_footer(flipped(raw, bit), size)


def test_every_flipped_bit_of_a_record_is_refused_by_digest_and_by_checksum():
    chunk = b"the same words again, the same words again, the same words again" * 2
    codec, payload = encode(chunk, 1)
    record = Record(block_digest(chunk), 0, len(payload), len(chunk), Kind.BLOCK, codec)
    raw = encode_header(record, payload) + bytes(payload)
    assert bytes(verified_chunk(record.digest, raw, 0)) == chunk
    assert bytes(verified_payload(record, raw)) == bytes(payload)
    for bit in range(8 * len(raw)):
        damaged = flipped(raw, bit)
        with pytest.raises(PackDamaged):
            verified_payload(record, damaged)
        # A bit of the payload that decoding does not look at does no harm; every other does.
        try:
            assert bytes(verified_chunk(record.digest, damaged, 0)) == chunk
        except PackDamaged:
            continue
        assert bit >= 8 * HEADER_SIZE


def test_a_record_of_another_chunk_is_refused():
    record = Record(block_digest(b"a"), 0, 1, 1, Kind.BLOCK, 0)
    raw = encode_header(record, b"a") + b"a"
    with pytest.raises(PackDamaged, match="another chunk"):
        verified_chunk(block_digest(b"b"), raw, 0)
    with pytest.raises(PackDamaged, match="not the one"):
        verified_payload(record._replace(chunk_size=2), raw)


def test_a_block_whose_bytes_are_a_nodes_does_not_pass_for_the_node():
    data = b"made to look like a node"
    record = Record(node_digest(data), 0, len(data), len(data), Kind.BLOCK, 0)
    with pytest.raises(PackDamaged, match="hash"):
        verified_chunk(record.digest, encode_header(record, data) + data, 0)


@given(st.binary(max_size=4 * HEADER_SIZE))
def test_any_bytes_are_refused_as_a_header_or_read_as_one(raw):
    with pytest.raises(PackDamaged):
        decode_header(raw, 0)


@given(st.binary(max_size=2 * TRAILER_SIZE), st.integers(0, 1 << 40))
def test_any_bytes_are_refused_as_a_trailer(raw, pack_size):
    with pytest.raises(PackDamaged):
        decode_trailer(raw, pack_size)


@given(contents, st.integers(-200, 200).filter(bool))
def test_a_trailer_of_a_pack_of_another_length_is_refused(contents, difference):
    records = records_of(contents)
    raw = encode_footer(records)
    size = (records[-1].stop if records else 0) + len(raw)
    with pytest.raises(PackDamaged, match="size"):
        decode_trailer(raw[-TRAILER_SIZE:], size + difference)


def test_records_that_do_not_touch_are_refused():
    first, second = records_of([(bytes(32), b"abc", 3, Kind.BLOCK)] * 2)
    for moved in (second._replace(offset=second.offset + 1), second._replace(offset=0)):
        raw = encode_footer([first, moved])
        with pytest.raises(PackDamaged, match="touch"):
            read_footer(raw, moved.stop + len(raw))


def test_a_trailer_that_claims_too_many_records_is_refused_before_they_are_read():
    raw = encode_footer(records_of([(bytes(32), b"", 0, Kind.BLOCK)] * (PACK_RECORDS_MAX + 1)))
    size = (PACK_RECORDS_MAX + 1) * HEADER_SIZE + len(raw)
    with pytest.raises(PackDamaged):
        decode_trailer(raw[-TRAILER_SIZE:], size)


def test_zeros_are_told_from_other_bytes():
    with pytest.raises(PackDamaged, match="zeros"):
        decode_header(bytes(HEADER_SIZE), 0)
    with pytest.raises(PackDamaged, match="other bytes"):
        decode_header(b"x" * HEADER_SIZE, 0)


@pytest.mark.parametrize("size", [0, 1, HEADER_SIZE - 1])
def test_a_header_cut_short_is_refused(size):
    header = encode_header(Record(bytes(32), 0, 0, 0, Kind.BLOCK, 0), b"")
    with pytest.raises(PackDamaged, match="ends inside"):
        decode_header(header[:size], 0)
