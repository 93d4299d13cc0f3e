"""The exchange format: every block's digest in one Parquet file, for other engines to count.

    column        type
    image         dictionary   the image's name
    block_size    u32          bytes
    block_index   u64          the block's byte offset is block_index * block_size
    size          u32          the block's bytes that lie on the disk: fewer than block_size at
                               its end only
    digest_high   u64          the digest's first eight bytes, big endian
    digest_low    u64          its last eight

A row for each block of each size that is not all zeros; rows come in no promised order.  How
digests are made, of the block filled up with zeros, is in ``block_digests.py``: two blocks of
one size are equal exactly if both halves of their digests are.  The file's own metadata has
one entry, ``ebsim.fingerprints``, a JSON object: ``version`` 1 and ``images``, a list of
objects with ``name``, ``size_bytes`` and ``series``, which names what images are states of one
disk, in their order, and is empty for an image that stands alone.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

import polars as pl

from ebsim.analysis.images import Image
from ebsim.durable_files import Files, NewFile

FINGERPRINTS_VERSION = 1
FINGERPRINTS_KEY = "ebsim.fingerprints"
_ROWS_PER_GROUP = 1 << 17


class _NewFileWriter(io.RawIOBase):
    """Lets polars write to a file that gets its name only when it is whole."""

    def __init__(self, file: NewFile) -> None:
        super().__init__()
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        before = self._file.size_bytes
        self._file.append([memoryview(data)])
        return self._file.size_bytes - before


def write_fingerprints(
    target: Path, images: Sequence[Image], parts: Sequence[Sequence[Path]]
) -> None:
    """Write the rows of *images*, whose *parts* are given, to *target*, whole or not at all.

    Memory: some row groups, whatever the images' sizes.

    Raises:
        StorageUnavailable, StorageFull, FileNotFoundError: the disk.
    """
    rows = [_rows(image, paths) for image, paths in zip(images, parts, strict=True) if paths]
    notes = {
        "version": FINGERPRINTS_VERSION,
        "images": [
            {"name": image.name, "size_bytes": image.size_bytes, "series": image.series}
            for image in images
        ],
    }
    file = NewFile(Files(), target)
    try:
        pl.concat(rows).sink_parquet(
            cast("IO[bytes]", _NewFileWriter(file)),
            compression="zstd",
            compression_level=1,
            row_group_size=_ROWS_PER_GROUP,
            metadata={FINGERPRINTS_KEY: json.dumps(notes)},
        )
        file.publish(replace=True)
    finally:
        file.discard()


def _rows(image: Image, paths: Sequence[Path]) -> pl.LazyFrame:
    start = pl.col("block_index") * pl.col("block_size").cast(pl.UInt64)
    left = pl.lit(image.size_bytes, dtype=pl.UInt64) - start
    return pl.scan_parquet(list(paths)).select(
        pl.lit(image.name).cast(pl.Categorical).alias("image"),
        "block_size",
        "block_index",
        pl.min_horizontal(pl.col("block_size").cast(pl.UInt64), left)
        .cast(pl.UInt32)
        .alias("size"),
        "digest_high",
        "digest_low",
    )
