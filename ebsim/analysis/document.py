"""An analysis as a JSON document, for programs.

Sizes are bytes, ``Error`` is how far off an estimate may be in 95 of 100 cases (0 where all
was compressed, null where it is not known).  ``SharedBlocks`` has a row and a column for each
image, in the order of ``Images``.  ``ContentDefined`` is there if it was asked for; its
``UncompressedBytes`` are the unique ones with their index and a list for each image.
"""

from collections.abc import Mapping

from ebsim.analysis.chunk_counting import ChunkedResult
from ebsim.analysis.compression_estimate import Estimate
from ebsim.analysis.results import Analysis, SizeResult


def analysis_document(analysis: Analysis) -> dict[str, object]:
    """*analysis* as what ``json.dumps`` takes."""
    recommended = analysis.recommended
    chunked = [_chunked_document(result) for result in analysis.chunked]
    return {
        "Images": [
            {"Name": image.name, "SizeBytes": image.size_bytes, "Series": image.series or None}
            for image in analysis.images
        ],
        "LeftOut": [{"Name": name, "Reason": reason} for name, reason in analysis.skipped.items()],
        "TotalBytes": analysis.total_bytes,
        "HoleBytes": analysis.hole_bytes,
        "Levels": list(analysis.levels),
        "BlockSizes": [_size_document(analysis, result) for result in analysis.sizes],
        "Changes": [
            {
                "From": change.first,
                "To": change.second,
                "DifferingBytes": change.differing_bytes,
                "ChangedBlocks": _by_size(change.block_counts),
            }
            for change in analysis.changes
        ],
        "RecommendedBlockSize": recommended.block_size,
        "Reason": analysis.recommendation.reason,
        **({"ContentDefined": chunked} if chunked else {}),
    }


def _chunked_document(result: ChunkedResult) -> dict[str, object]:
    return {
        "AverageSize": result.average_size,
        "MeanSize": result.mean_size,
        "Chunks": result.chunk_count,
        "UniqueChunks": result.distinct_count,
        "ZeroBytes": result.zero_bytes,
        "RepeatedWithinBytes": result.repeated_within_bytes,
        "RepeatedAcrossBytes": result.repeated_across_bytes,
        "UniqueBytes": result.unique_bytes,
        "IndexBytesMax": result.cost.index_bytes,
        "ChunkListBytes": result.cost.list_bytes,
        "UncompressedBytes": result.uncompressed_bytes,
    }


def _size_document(analysis: Analysis, result: SizeResult) -> dict[str, object]:
    sharing = result.sharing
    return {
        "BlockSize": result.block_size,
        "ZeroBytes": result.zero_bytes,
        "RepeatedWithinBytes": result.repeated_within_bytes,
        "RepeatedAcrossBytes": result.repeated_across_bytes,
        "UniqueBytes": result.unique_bytes,
        "UniqueBlocks": sharing.distinct_count,
        "Compressed": [
            {"Level": level, **_estimate_document(result.payload[level])}
            for level in analysis.levels
        ],
        "RecordBytes": result.cost.record_bytes,
        "MapBytes": result.cost.map_bytes,
        "IndexBytesMax": result.cost.index_bytes,
        "StoreBytes": result.store_bytes(analysis.levels[0]),
        "BlockListBytes": result.cost.list_bytes,
        "PerImage": [
            {
                "Name": image.name,
                "Blocks": int(sharing.block_counts[place]),
                "UniqueBlocks": int(sharing.distinct_counts[place]),
                "AddedBlocks": int(sharing.added_counts[place]),
                "AloneBlocks": int(sharing.alone_counts[place]),
            }
            for place, image in enumerate(analysis.images)
        ],
        "SharedBlocks": sharing.shared_counts.tolist(),
    }


def _estimate_document(estimate: Estimate) -> dict[str, object]:
    return {
        "Bytes": estimate.size_bytes,
        "Error": estimate.error_bytes,
        "SampledBlocks": estimate.sample_count,
    }


def _by_size(counts: Mapping[int, int]) -> list[dict[str, int]]:
    return [{"BlockSize": size, "Blocks": count} for size, count in counts.items()]
