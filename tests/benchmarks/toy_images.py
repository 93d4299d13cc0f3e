"""Images of a few megabytes that have all that the benchmarks look for."""

from pathlib import Path
from random import Random

from ebsim.units import KIB, MIB

BLOCK_SIZE = 512 * KIB


def compressible(random: Random, size_bytes: int) -> bytes:
    """Bytes that zstd makes smaller."""
    return bytes(random.choices(b"abcdefgh", k=size_bytes // 16)) * 16


def write_image(path: Path, seed: int, *, tail_bytes: int = 4 * KIB) -> bytes:
    """Write data, a block twice, a hole, zeros, and a block cut short; return the bytes."""
    random = Random(seed)
    first, second = compressible(random, BLOCK_SIZE), random.randbytes(BLOCK_SIZE)
    content = b"".join(
        [first, second, bytes(MIB), first, bytes(BLOCK_SIZE), random.randbytes(tail_bytes)]
    )
    with path.open("xb") as file:
        file.write(content[: 2 * BLOCK_SIZE])
        file.seek(2 * BLOCK_SIZE + MIB)
        file.write(content[2 * BLOCK_SIZE + MIB :])
    return content
