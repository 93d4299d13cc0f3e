"""The analysis says of a store, block size by block size, what the store then really holds."""

from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from ebsim.analysis.analyze_images import AnalysisOptions, analyze_images
from ebsim.analysis.block_digests import BLOCK_SIZES
from ebsim.analysis.image_list import ImageList
from ebsim.analysis.results import Analysis, SizeResult
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.region import Region, open_region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.store_stats import store_stats
from ebsim.ids import AccountId
from ebsim.units import KIB, MIB

ACCOUNT = AccountId("123456789012")


def write_images(folder: Path, seed: int = 11) -> list[Path]:
    """Three images with holes, zeros, text, repeats at odd places, and ends off any border."""
    random = Random(seed)
    text = b"".join(b"line %d of a file\n" % random.randrange(50) for _ in range(60_000))
    page = random.randbytes(4 * KIB)
    first = bytearray(9 * MIB + 777)
    first[0 : len(text)] = text
    first[4 * MIB : 5 * MIB] = random.randbytes(MIB)
    first[6 * MIB : 6 * MIB + 64 * KIB] = page * 16
    first[-700:] = random.randbytes(700)
    second = bytearray(first)
    second[100_000] ^= 1
    second[4 * MIB + 70_000 : 4 * MIB + 70_010] = bytes(10)
    third = bytearray(5 * MIB)
    third[512 * KIB : 512 * KIB + MIB] = first[4 * MIB : 5 * MIB]
    third[3 * MIB : 3 * MIB + 8 * KIB] = page * 2
    paths = []
    for name, content in (("a", first), ("b", second), ("c", third)):
        path = folder / f"{name}.img"
        with path.open("wb") as file:
            file.truncate(len(content))
            for at in range(0, len(content), 64 * KIB):
                piece = content[at : at + 64 * KIB]
                # One stretch of zeros is written, and the others are holes.
                if any(piece) or at == 2 * MIB:
                    file.seek(at)
                    file.write(piece)
        paths.append(path)
    return paths


def analyzed(paths: list[Path], levels: tuple[int, ...] = (1,)) -> Analysis:
    found = ImageList(keep_going=False)
    found.add_files([str(path) for path in paths])
    return analyze_images(found.images, AnalysisOptions(levels=levels, compress_all=True))


def stored(home: Path, paths: list[Path], block_size: int) -> Region:
    region = open_region(home, "us-east-1", ACCOUNT)
    for path in paths:
        create_snapshot(region, str(path), SnapshotOptions(block_size=block_size))
    return region


@pytest.mark.slow
def test_unique_blocks_and_bytes_are_those_of_the_store(tmp_path: Path) -> None:
    """Every block size, with every block compressed and so nothing estimated."""
    paths = write_images(tmp_path)
    analysis = analyzed(paths)
    for block_size in BLOCK_SIZES:
        result = analysis.size_result(block_size)
        with closing(stored(tmp_path / str(block_size), paths, block_size)) as region:
            stats = store_stats(region)
        assert result.sharing.distinct_count == stats.block_count
        assert result.sharing.block_count * block_size == stats.logical_bytes
        assert result.payload[1].error_bytes == 0
        _assert_costs_fit(result, stats.live_bytes, stats.node_count)


def _assert_costs_fit(result: SizeResult, live_bytes: int, node_count: int) -> None:
    """Records of blocks are exact; of nodes, the leaves are, uncompressed, the most."""
    footer_bytes = 48 * result.sharing.distinct_count
    blocks = result.payload[1].size_bytes + result.cost.record_bytes - footer_bytes
    nodes = live_bytes - blocks
    assert 0 < nodes <= result.cost.map_bytes + node_count * 512


def test_what_is_zeros_repeated_or_unique_makes_up_the_disks(tmp_path: Path) -> None:
    """But for what fills up the last block of a disk, which is stored and not on the disk."""
    paths = write_images(tmp_path)
    analysis = analyzed(paths)
    for result in analysis.sizes:
        filling = sum(
            -path.stat().st_size % result.block_size
            for path in paths
            if path.read_bytes()[-700:].strip(b"\0")
        )
        accounted = (
            result.zero_bytes
            + result.repeated_within_bytes
            + result.repeated_across_bytes
            + result.unique_bytes
        )
        assert accounted == analysis.total_bytes + filling


def test_snapshots_in_a_store_are_analysed_as_the_images_were(tmp_path: Path) -> None:
    paths = write_images(tmp_path)
    expected = analyzed(paths)
    with closing(stored(tmp_path / "home", paths, 64 * KIB)) as region:
        found = ImageList(keep_going=False)
        found.add_snapshots(region, None)
    names = {path.stat().st_size: place for place, path in enumerate(paths)}
    assert len(names) == 2, "the last one is shorter"
    analysis = analyze_images(found.images, AnalysisOptions(levels=(1,), compress_all=True))
    assert [(s.unique_bytes, s.zero_bytes, s.payload) for s in analysis.sizes] == [
        (s.unique_bytes, s.zero_bytes, s.payload) for s in expected.sizes
    ]
