"""Digests of all block sizes from one pass: equal exactly where the bytes are."""

from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from ebsim.analysis.block_digests import (
    BLOCK_SIZE_MAX,
    BLOCK_SIZE_MIN,
    BLOCK_SIZES,
    DIGEST_SIZE,
    LEVEL_STARTS,
    ZERO_DIGESTS,
    ReadInto,
    StretchHasher,
    size_name,
)

PAGES = BLOCK_SIZE_MAX // BLOCK_SIZE_MIN
HASHER = StretchHasher()
SMALL_HASHER = StretchHasher(window_size=3 * BLOCK_SIZE_MIN)

# A few pages that are not zeros, near borders above all, with few different contents.
page_numbers = st.one_of(
    st.sampled_from([0, 1, 2, 511, 512, PAGES - 1]), st.integers(0, PAGES - 1)
)
stretches = st.dictionaries(page_numbers, st.sampled_from(b"\0ab"), max_size=12)


def content_of(pages: dict[int, int]) -> bytes:
    content = bytearray(BLOCK_SIZE_MAX)
    for number, value in pages.items():
        start = number * BLOCK_SIZE_MIN
        content[start : start + BLOCK_SIZE_MIN] = bytes([value]) * BLOCK_SIZE_MIN
    return bytes(content)


def digests_of(content: bytes) -> bytes:
    return HASHER.digests(reader(content), [(0, PAGES)])


def reader(content: bytes) -> ReadInto:
    def read(buffer: memoryview, offset_bytes: int) -> None:
        buffer[:] = content[offset_bytes : offset_bytes + len(buffer)]

    return read


def blocks(content: bytes, digests: bytes, level: int) -> list[tuple[bytes, bytes]]:
    """Each block of a size, and its digest."""
    size, first = BLOCK_SIZES[level], LEVEL_STARTS[level]
    return [
        (
            content[at * size : (at + 1) * size],
            digests[(first + at) * DIGEST_SIZE : (first + at + 1) * DIGEST_SIZE],
        )
        for at in range(BLOCK_SIZE_MAX // size)
    ]


@given(one=stretches, other=stretches)
def test_digests_are_equal_exactly_where_blocks_are(
    one: dict[int, int], other: dict[int, int]
) -> None:
    contents = [content_of(one), content_of(other)]
    digests = [digests_of(content) for content in contents]
    for level in range(4, len(BLOCK_SIZES)):
        found = {
            pair
            for content, its in zip(contents, digests, strict=True)
            for pair in blocks(content, its, level)
        }
        assert len(found) == len({block for block, _ in found})
        assert len(found) == len({digest for _, digest in found})


def test_the_digest_of_zeros_is_known_for_every_size() -> None:
    content = bytes(BLOCK_SIZE_MAX)
    digests = digests_of(content)
    for level, zero in enumerate(ZERO_DIGESTS):
        assert {digest for _, digest in blocks(content, digests, level)} == {zero}


def test_a_larger_block_is_hashed_from_the_digests_of_its_halves() -> None:
    """As the exchange format says, so that other programs can make the same."""
    content = content_of({0: 1, 1: 2, 2: 1})
    digests = digests_of(content)
    pages = [xxh3_128_digest(content[at : at + 4096]) for at in range(0, 4 * 4096, 4096)]
    pairs = [xxh3_128_digest(pages[0] + pages[1]), xxh3_128_digest(pages[2] + pages[3])]
    assert blocks(content, digests, 0)[0][1] == pages[0]
    assert blocks(content, digests, 1)[1][1] == pairs[1]
    assert blocks(content, digests, 2)[0][1] == xxh3_128_digest(pairs[0] + pairs[1])


@given(filled=st.sets(page_numbers, max_size=6))
def test_pages_that_were_not_filled_count_as_zeros(filled: set[int]) -> None:
    content = content_of(dict.fromkeys(filled, 7))
    everywhere = reader(bytes([7]) * BLOCK_SIZE_MAX)
    ranges = [(number, number + 1) for number in sorted(filled)]
    assert HASHER.digests(everywhere, ranges) == digests_of(content)


@given(pages=stretches, first=st.integers(0, 20), length=st.integers(1, 20))
def test_what_is_read_at_once_makes_no_difference(
    pages: dict[int, int], first: int, length: int
) -> None:
    content = content_of(pages)
    filled = [(first, first + length), (500, PAGES)]
    expected = HASHER.digests(reader(content), filled)
    assert SMALL_HASHER.digests(reader(content), filled) == expected


def test_block_sizes_have_names() -> None:
    assert [size_name(size) for size in BLOCK_SIZES[::5]] == ["4 KiB", "128 KiB", "4 MiB"]
