"""Which blocks to compress, and compressing them.

The sample is chosen by digest: those different blocks whose digests are lowest, which is as
good as by lot.  So each *content* has the same chance however often it occurs, and what is
compressed is a sample of what a store would keep.  It is read once more, from one of the
places where it lies.

How well blocks compress differs far more from one to the next than between a block and its
4 KiB pages, and whole blocks of megabytes are dear.  So large ones are sampled twice: of many
blocks one page is compressed, and some of them are compressed as a whole and by 128 of their
pages, which tells what pages say of blocks (``compression_estimate.py``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import NamedTuple

import polars as pl

from ebsim.analysis.block_digests import BLOCK_SIZE_MIN
from ebsim.analysis.images import Image, Readable, opened_image
from ebsim.analysis.sharing import DIGEST_COLUMNS
from ebsim.content.compression import Codec, encode
from ebsim.units import MIB

_SHARE = 1 / 1024
_SAMPLE_BYTES_MIN = 4 * MIB
_BLOCKS_MIN, _LARGE_BLOCKS_MIN = 16, 8
_PAGES_MIN = 1024
_PAGES_OF_WHOLE_MAX = 128
# So many whole blocks tell enough by themselves.
_WHOLE_ENOUGH = 512
_ALMOST_ALL = 0.5
_HIGHEST = (1 << 64) - 1
_TASK_BYTES, _TASK_BLOCKS = 16 * MIB, 512
_WHOLE, _WHOLE_ONLY = -1, -2


class Shares(NamedTuple):
    """Which shares of the different blocks of a size are sampled, by a page and as a whole."""

    pages: float
    whole: float


class StoredBlock(NamedTuple):
    """What a store would keep of a block, at each level.

    Attributes:
        pages: In pages of 4 KiB: of all of them, or in proportion of some or of one; empty
            where none was compressed.
        whole: As it is; empty where only a page was compressed.
    """

    block_size: int
    pages: tuple[int, ...]
    whole: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CompressionTask:
    """Blocks of one image to compress, as (block size, block index, page).

    The page is -1 for the block as a whole and its pages, -2 for the block as a whole alone.
    A value that can be sent to another process.
    """

    image: Image
    blocks: tuple[tuple[int, int, int], ...]
    levels: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """What is read."""
        return sum(_read_bytes(size, page) for size, _, page in self.blocks)


def _read_bytes(block_size: int, page: int) -> int:
    return block_size if page < 0 else BLOCK_SIZE_MIN


ALL = Shares(0.0, 1.0)
"""Every block is compressed, and no page stands for another."""


def sample_shares(distinct_count: int, block_size: int) -> Shares:
    """What to sample of so many different blocks; of 0, all.

    As a whole a thousandth, or 4 MiB, or 16 (of more than 1 MiB, 8), whichever is most; by a
    page 1024 where that is fewer than 512.  All, where that would be half of them.
    """
    if distinct_count == 0:
        return ALL
    wanted = max(_SHARE, _SAMPLE_BYTES_MIN / block_size / distinct_count)
    least = _BLOCKS_MIN if block_size <= MIB else _LARGE_BLOCKS_MIN
    whole = max(wanted, least / distinct_count)
    if whole >= _ALMOST_ALL:
        return ALL
    if whole * distinct_count >= _WHOLE_ENOUGH:
        return Shares(0.0, whole)
    return Shares(min(1.0, _PAGES_MIN / distinct_count), whole)


def compression_tasks(
    images: Sequence[Image],
    parts: Sequence[Sequence[Path]],
    shares: Mapping[int, Shares],
    levels: Sequence[int],
) -> Iterator[CompressionTask]:
    """Yield what to compress of *images*: a share of the different blocks of each size.

    Memory: the places of the sampled blocks.
    """
    for place, blocks in enumerate(_chosen(parts, shares)):
        task: list[tuple[int, int, int]] = []
        size_bytes = 0
        for size, index, page in blocks.iter_rows():
            task.append((size, index, page))
            size_bytes += _read_bytes(size, page)
            if size_bytes >= _TASK_BYTES or len(task) == _TASK_BLOCKS:
                yield CompressionTask(images[place], tuple(task), tuple(levels))
                task, size_bytes = [], 0
        if task:
            yield CompressionTask(images[place], tuple(task), tuple(levels))


def _chosen(parts: Sequence[Sequence[Path]], shares: Mapping[int, Shares]) -> list[pl.DataFrame]:
    """For each image the sampled blocks that are read from it, in the order of the disk."""
    is_low = reduce(or_, (_is_low(size, max(share)) for size, share in shares.items()))
    found = [
        pl.scan_parquet(list(paths)).filter(is_low).with_columns(place=pl.lit(place)).collect()
        for place, paths in enumerate(parts)
    ]
    chosen = pl.concat(found).unique(
        subset=["block_size", *DIGEST_COLUMNS], keep="first", maintain_order=True
    )
    is_whole = reduce(or_, (_is_low(size, share.whole) for size, share in shares.items()))
    is_page = reduce(or_, (_is_low(size, share.pages) for size, share in shares.items()))
    pages = pl.col("block_size") // BLOCK_SIZE_MIN
    # The digest's other half is as good as a lot, too.
    page = (pl.col("digest_low") % pages).cast(pl.Int64)
    paged = [size for size, share in shares.items() if share.pages]
    whole = pl.when(pl.col("block_size").is_in(paged)).then(_WHOLE).otherwise(_WHOLE_ONLY)
    both = pl.concat(
        [
            chosen.filter(is_whole).with_columns(page=whole.cast(pl.Int64)),
            chosen.filter(is_page).with_columns(page=page),
        ]
    )
    start = pl.col("block_index") * pl.col("block_size").cast(pl.UInt64)
    return [
        both.filter(pl.col("place") == place)
        .sort(start, "block_size", "page")
        .select("block_size", "block_index", "page")
        for place in range(len(parts))
    ]


def _is_low(block_size: int, share: float) -> pl.Expr:
    if share <= 0:
        return pl.lit(False)
    limit = _HIGHEST if share >= 1 else int(share * 2**64)
    return (pl.col("block_size") == block_size) & (
        pl.col("digest_high") <= pl.lit(limit, dtype=pl.UInt64)
    )


def compress_sample(task: CompressionTask) -> list[StoredBlock]:
    """Read and compress *task*'s blocks.

    Raises:
        SourceUnusable, IntegrityError, ...: they cannot be read, or changed.
    """
    longest = max(_read_bytes(size, page) for size, _, page in task.blocks)
    buffer = memoryview(bytearray(longest))
    with opened_image(task.image) as disk:
        return [_compress(disk, buffer, block, task.levels) for block in task.blocks]


def _compress(
    disk: Readable, buffer: memoryview, block: tuple[int, int, int], levels: Sequence[int]
) -> StoredBlock:
    block_size, block_index, page = block
    start = block_index * block_size
    page_count = block_size // BLOCK_SIZE_MIN
    data = buffer[: _read_bytes(block_size, page)]
    if page >= 0:
        disk.read_into(data, start + page * BLOCK_SIZE_MIN)
        one = (_stored_bytes(data, level) * page_count for level in levels)
        return StoredBlock(block_size, tuple(one), ())
    disk.read_into(data, start)
    whole = tuple(_stored_bytes(data, level) for level in levels)
    if page == _WHOLE_ONLY:
        return StoredBlock(block_size, (), whole)
    pieces = [data[at : at + BLOCK_SIZE_MIN] for at in _page_offsets(page_count)]
    each_for = page_count // len(pieces)
    return StoredBlock(
        block_size,
        tuple(each_for * sum(_stored_bytes(piece, level) for piece in pieces) for level in levels),
        whole,
    )


def _page_offsets(page_count: int) -> list[int]:
    """Where the pages lie that stand for a block of *page_count*, a power of two."""
    step = max(1, page_count // _PAGES_OF_WHOLE_MAX)
    # Not each at the same place of its step: databases have something at every fourth page.
    pages = (turn * step + turn * 5 % step for turn in range(page_count // step))
    return [page * BLOCK_SIZE_MIN for page in pages]


def _stored_bytes(data: memoryview, level: int) -> int:
    """What a store would keep of *data*: the zstd frame, or the bytes themselves."""
    codec, payload = encode(data, level)
    return len(payload) if codec is Codec.ZSTD else len(data)
