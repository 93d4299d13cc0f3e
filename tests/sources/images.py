"""Images made by qemu-img, and the disks that are in them."""

import random
from pathlib import Path

from ebsim.sources.source import Source
from tests.tools import run

KIB = 1 << 10
MIB = 1 << 20

# What qemu-img makes: its driver, the extension, its options.
VARIANTS = [
    ("qcow2", "qcow2", ""),
    ("qcow2", "qcow2", "compat=0.10"),
    ("qcow2", "qcow2", "cluster_size=512"),
    ("qcow2", "qcow2", "cluster_size=2M"),
    ("qcow2", "qcow2", "extended_l2=on,cluster_size=128k"),
    ("qcow2", "qcow2", "preallocation=metadata"),
    ("qcow2", "qcow2", "preallocation=full"),
    ("qcow2", "qcow2", "compression_type=zstd"),
    ("vmdk", "vmdk", ""),
    ("vmdk", "vmdk", "subformat=streamOptimized"),
    ("vpc", "vhd", "force_size=on"),
    ("vpc", "vhd", "force_size=on,subformat=fixed"),
    ("vhdx", "vhdx", ""),
    ("vhdx", "vhdx", "subformat=fixed"),
    ("vdi", "vdi", ""),
    ("vdi", "vdi", "static=on"),
]


def make_disk(path: Path, size_bytes: int = 24 * MIB, seed: int = 3) -> Path:
    """A raw disk with data near its start, over the middle, near its end, and holes."""
    chance = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for start, length in (
            (0, 5 * KIB),
            (3 * MIB + 1536, 700 * KIB),
            (9 * MIB, 3 * MIB),
            (size_bytes - 2 * MIB, MIB),
            (size_bytes - 512, 512),
        ):
            file.seek(start)
            file.write(chance.randbytes(length))
    return path


def convert(raw: Path, image: Path, driver: str, *options: str) -> Path:
    run("qemu-img", "convert", "-f", "raw", "-O", driver, *options, raw, image)
    return image


def read_whole(source: Source, block_bytes: int = 512 * KIB) -> bytes:
    """The disk as a snapshot sees it: blocks that overlap an extent, zeros elsewhere."""
    rebuilt = bytearray(source.size_bytes)
    buffer = bytearray(block_bytes)
    for extent in source.extents():
        for start in range(extent.start // block_bytes * block_bytes, extent.stop, block_bytes):
            source.read_into(memoryview(buffer), start)
            stop = min(start + block_bytes, source.size_bytes)
            rebuilt[start:stop] = buffer[: stop - start]
            assert not any(buffer[stop - start :]), "past the disk's end all is zeros"
    return bytes(rebuilt)


def patched(image: Path, changes: dict[int, bytes]) -> Path:
    """A copy of *image* with bytes replaced at some offsets."""
    copy = image.with_name(f"patched-{image.name}")
    raw = bytearray(image.read_bytes())
    for offset, data in changes.items():
        raw[offset : offset + len(data)] = data
    copy.write_bytes(raw)
    return copy


def cut(image: Path, size_bytes: int) -> Path:
    """A copy of *image* that ends early."""
    copy = image.with_name(f"cut-{image.name}")
    copy.write_bytes(image.read_bytes()[:size_bytes])
    return copy
