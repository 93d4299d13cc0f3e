"""Which blocks to compress, and compressing them.

The sample is drawn by digest: those different blocks whose digests are lowest, which is as
good as by lot.  So each *content* has the same chance however often it occurs, and what is
compressed is a sample of what a store would keep.  Where a few are enough, eight times as many
are drawn, and every eighth of them is taken in the order in which they lie.  The sample is
read once more, from one of the places where it lies.

How well blocks compress differs far more from one to the next than between a block and its
pieces, and whole blocks of megabytes are dear.  So large ones are sampled twice: of many
blocks one piece is compressed, and some of them are compressed as a whole and by pieces, which
tells what pieces say of blocks (``compression_estimate.py``).  Pieces are pages of 4 KiB, or,
of blocks that a page says little of, 64 KiB: a block of a database takes half of what its
pages do, or a sixth, and a few whole ones do not tell which.
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
from ebsim.units import KIB, MIB

_SHARE = 1 / 1024
_SAMPLE_BYTES_MIN = 4 * MIB
_BLOCKS_MIN = 8
_PIECE_SIZE = 64 * KIB
_LARGE = 256 * KIB
_PAGES_MIN, _PIECES_MIN = 1024, 192
_PIECES_OF_WHOLE_MAX = 16
_DRAWN_FOR_ONE = 8
# So many whole blocks tell enough by themselves.
_WHOLE_ENOUGH = 512
_ALMOST_ALL = 0.5
_HIGHEST = (1 << 64) - 1
_TASK_BYTES, _TASK_BLOCKS = 16 * MIB, 512
_WHOLE, _WHOLE_ONLY = -1, -2


class Shares(NamedTuple):
    """Which shares of the different blocks of a size are sampled, by a piece and as a whole."""

    pieces: float
    whole: float


class StoredBlock(NamedTuple):
    """What a store would keep of a block, at each level.

    Attributes:
        pieces: In pieces that compress: of all of them, or in proportion of some or of one;
            empty where none was compressed.
        kept_pieces: In those that do not, and would be kept as they are.
        whole: As it is; empty where only a piece was compressed.
    """

    block_size: int
    pieces: tuple[int, ...]
    kept_pieces: tuple[int, ...]
    whole: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CompressionTask:
    """Blocks of one image to compress, as (block size, block index, piece).

    The piece is -1 for the block as a whole and its pieces, -2 for the block as a whole alone.
    A value that can be sent to another process.
    """

    image: Image
    blocks: tuple[tuple[int, int, int], ...]
    levels: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """What is read."""
        return sum(_read_bytes(size, piece) for size, _, piece in self.blocks)


def _read_bytes(block_size: int, piece: int) -> int:
    return block_size if piece < 0 else _piece_size(block_size)


def _piece_size(block_size: int) -> int:
    return _PIECE_SIZE if block_size >= _LARGE else BLOCK_SIZE_MIN


ALL = Shares(0.0, 1.0)
"""Every block is compressed, and no piece stands for another."""


def sample_shares(distinct_count: int, block_size: int) -> Shares:
    """What to sample of so many different blocks; of 0, all.

    As a whole a thousandth, or 4 MiB, or 8, whichever is most; where that is fewer than 512,
    by a piece 192, or by a page 1024.  All, where that would be half of them.
    """
    if distinct_count == 0:
        return ALL
    wanted = max(_SHARE, _SAMPLE_BYTES_MIN / block_size / distinct_count)
    whole = max(wanted, _BLOCKS_MIN / distinct_count)
    if whole >= _ALMOST_ALL:
        return ALL
    if whole * distinct_count >= _WHOLE_ENOUGH:
        return Shares(0.0, whole)
    least = _PIECES_MIN if block_size >= _LARGE else _PAGES_MIN
    return Shares(min(1.0, least / distinct_count), whole)


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
        for size, index, piece in blocks.iter_rows():
            task.append((size, index, piece))
            size_bytes += _read_bytes(size, piece)
            if size_bytes >= _TASK_BYTES or len(task) == _TASK_BLOCKS:
                yield CompressionTask(images[place], tuple(task), tuple(levels))
                task, size_bytes = [], 0
        if task:
            yield CompressionTask(images[place], tuple(task), tuple(levels))


def _chosen(parts: Sequence[Sequence[Path]], shares: Mapping[int, Shares]) -> list[pl.DataFrame]:
    """For each image the sampled blocks that are read from it, in the order of the disk."""
    is_drawn = reduce(or_, (_is_low(size, _drawn(share)) for size, share in shares.items()))
    found = [
        pl.scan_parquet(list(paths)).filter(is_drawn).with_columns(place=pl.lit(place)).collect()
        for place, paths in enumerate(parts)
    ]
    drawn = pl.concat(found).unique(
        subset=["block_size", *DIGEST_COLUMNS], keep="first", maintain_order=True
    )
    sampled = pl.concat([_sampled(drawn, size, share) for size, share in shares.items()])
    start = pl.col("block_index") * pl.col("block_size").cast(pl.UInt64)
    return [
        sampled.filter(pl.col("place") == place)
        .sort(start, "block_size", "piece")
        .select("block_size", "block_index", "piece")
        for place in range(len(parts))
    ]


def _drawn(share: Shares) -> float:
    """How many are drawn by digest; of a few, more than are taken."""
    return min(1.0, _DRAWN_FOR_ONE * max(share)) if share.pieces else share.whole


def _sampled(drawn: pl.DataFrame, block_size: int, share: Shares) -> pl.DataFrame:
    """What is compressed of the *drawn* blocks of one size, as wholes and by a piece.

    What lies together compresses alike, so those that are taken are spread over the disks.
    """
    blocks = drawn.filter(pl.col("block_size") == block_size).sort("place", "block_index")
    turn = pl.int_range(pl.len()).cast(pl.Float64)

    def spread(part: float) -> pl.Expr:
        each = part / _drawn(share) if part else 0.0
        return ((turn + 1) * each).floor() > (turn * each).floor()

    piece_count = block_size // _piece_size(block_size)
    # The digest's other half is as good as a lot, too.
    piece = (pl.col("digest_low") % piece_count).cast(pl.Int64)
    whole = pl.lit(_WHOLE if share.pieces else _WHOLE_ONLY, dtype=pl.Int64)
    return pl.concat(
        [
            blocks.filter(spread(share.whole)).with_columns(piece=whole),
            blocks.filter(spread(share.pieces)).with_columns(piece=piece),
        ]
    )


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
    longest = max(_read_bytes(size, piece) for size, _, piece in task.blocks)
    buffer = memoryview(bytearray(longest))
    with opened_image(task.image) as disk:
        return [_compress(disk, buffer, block, task.levels) for block in task.blocks]


def _compress(
    disk: Readable, buffer: memoryview, block: tuple[int, int, int], levels: Sequence[int]
) -> StoredBlock:
    block_size, block_index, place = block
    start, piece_size = block_index * block_size, _piece_size(block_size)
    piece_count = block_size // piece_size
    data = buffer[: _read_bytes(block_size, place)]
    if place >= 0:
        disk.read_into(data, start + place * piece_size)
        return StoredBlock(block_size, *_in_pieces([data], piece_count, levels), ())
    disk.read_into(data, start)
    whole = tuple(_stored_bytes(data, level) for level in levels)
    if place == _WHOLE_ONLY:
        return StoredBlock(block_size, (), (), whole)
    step = max(1, piece_count // _PIECES_OF_WHOLE_MAX)
    # Not each at the same place of its step: databases have something at every fourth page.
    places = (turn * step + turn * 5 % step for turn in range(piece_count // step))
    pieces = [data[at * piece_size : (at + 1) * piece_size] for at in places]
    return StoredBlock(block_size, *_in_pieces(pieces, piece_count, levels), whole)


def _in_pieces(
    pieces: Sequence[memoryview], piece_count: int, levels: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What *piece_count* pieces such as these come to: those that compress, and the others."""
    each_for = piece_count // len(pieces)
    smaller, kept = [], []
    for level in levels:
        stored = [(_stored_bytes(piece, level), len(piece)) for piece in pieces]
        smaller.append(each_for * sum(size for size, whole in stored if size < whole))
        kept.append(each_for * sum(size for size, whole in stored if size == whole))
    return tuple(smaller), tuple(kept)


def _stored_bytes(data: memoryview, level: int) -> int:
    """What a store would keep of *data*: the zstd frame, or the bytes themselves."""
    codec, payload = encode(data, level)
    return len(payload) if codec is Codec.ZSTD else len(data)
