"""What an analysis found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ebsim.analysis.chunk_counting import ChunkedResult
from ebsim.analysis.compression_estimate import Estimate
from ebsim.analysis.images import Image
from ebsim.analysis.layout import Layout
from ebsim.analysis.neighbours import NeighbourChange
from ebsim.analysis.sharing import Sharing
from ebsim.analysis.store_cost import Recommendation, StoreCost


@dataclass(frozen=True, slots=True)
class SizeResult:
    """What holds for one block size.

    Attributes:
        zero_bytes: Bytes of the disks in blocks that are all zeros, holes included.
        payload: What the different blocks would be compressed to, by zstd level.
        cost: What a store needs beside that.
    """

    block_size: int
    zero_bytes: int
    sharing: Sharing
    payload: Mapping[int, Estimate]
    cost: StoreCost

    @property
    def unique_bytes(self) -> int:
        """The different blocks, each once and in full."""
        return self.sharing.distinct_count * self.block_size

    @property
    def repeated_within_bytes(self) -> int:
        """Blocks that their own image has already."""
        return self.sharing.repeated_within_count * self.block_size

    @property
    def repeated_across_bytes(self) -> int:
        """Blocks that are new to their own image, and that another has."""
        return self.sharing.repeated_across_count * self.block_size

    def store_bytes(self, level: int) -> int:
        """What ebsim would need for everything."""
        return self.payload[level].size_bytes + self.cost.total_bytes


@dataclass(frozen=True, slots=True)
class Analysis:
    """What was found in some images.

    Attributes:
        total_bytes: The disks' sizes together.
        hole_bytes: What is known to be zeros without being read.
        levels: The zstd levels; the first is what the recommendation is for.
        sizes: By rising block size.
        changes: Neighbours of the same series, in order.
        layouts: One for each image, in blocks of the recommended size.
        skipped: Why an image was left out, by its name.
        chunked: Content-defined chunks, by rising average; empty if nobody asked.
    """

    images: Sequence[Image]
    total_bytes: int
    hole_bytes: int
    levels: Sequence[int]
    sizes: Sequence[SizeResult]
    changes: Sequence[NeighbourChange]
    layouts: Sequence[Layout]
    recommendation: Recommendation
    skipped: Mapping[str, str]
    chunked: Sequence[ChunkedResult] = ()

    def size_result(self, block_size: int) -> SizeResult:
        """What holds for *block_size*."""
        return next(size for size in self.sizes if size.block_size == block_size)

    @property
    def recommended(self) -> SizeResult:
        """What holds for the recommended block size."""
        return self.size_result(self.recommendation.block_size)
