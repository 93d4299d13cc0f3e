from benchmarks.synthetic_disk import SyntheticDisk
from ebsim.units import KIB

BLOCK_SIZE = 4 * KIB


def blocks_of(disk: SyntheticDisk, blocks_per_read: int) -> list[bytes]:
    buffer = memoryview(bytearray(b"\xff") * (blocks_per_read * BLOCK_SIZE))
    blocks: list[bytes] = []
    while count := disk.read_next(buffer):
        content = bytes(buffer[:count])
        blocks += [content[at : at + BLOCK_SIZE] for at in range(0, count, BLOCK_SIZE)]
    return blocks


def test_all_blocks_differ_and_none_is_zeros() -> None:
    blocks = blocks_of(SyntheticDisk(1000, {}, BLOCK_SIZE), 7)
    assert len(blocks) == len(set(blocks)) == 1000
    assert bytes(BLOCK_SIZE) not in blocks


def test_a_block_does_not_depend_on_how_the_disk_is_read() -> None:
    assert blocks_of(SyntheticDisk(50, {3: 1}, BLOCK_SIZE), 8) == blocks_of(
        SyntheticDisk(50, {3: 1}, BLOCK_SIZE), 1
    )


def test_a_block_written_again_is_the_only_one_that_differs() -> None:
    before = blocks_of(SyntheticDisk(50, {}, BLOCK_SIZE), 4)
    after = blocks_of(SyntheticDisk(50, {17: 1}, BLOCK_SIZE), 4)
    again = blocks_of(SyntheticDisk(50, {17: 2}, BLOCK_SIZE), 4)
    assert [at for at in range(50) if before[at] != after[at]] == [17]
    assert len({before[17], after[17], again[17]}) == 3


def test_the_disk_has_the_size_of_its_blocks() -> None:
    disk = SyntheticDisk(5, {}, BLOCK_SIZE)
    blocks_of(disk, 3)
    assert disk.size_bytes == 5 * BLOCK_SIZE
