"""Disks that are made by seed: what a disk holds at first, and what a day of use does to it.

Each is written as a machine would write it, in place, so that holes stay holes.  The same
seed and size give the same bytes on any machine.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

from ebsim.units import KIB, MIB

_PAGE = 4 * KIB
_DATABASE_PAGE = 8 * KIB
_WORDS = 4000


class Workload(NamedTuple):
    """A disk and its use: *make* writes the disk, *change* what happens to it then."""

    name: str
    title: str
    make: Callable[[Path, int, Random], None]
    change: Callable[[Path, int, Random], None]


@contextmanager
def _opened(path: Path, size_bytes: int) -> Iterator[int]:
    """The disk at *path*, made as long as it is to be, open for ``os.pwrite``."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(descriptor, size_bytes)
        yield descriptor
    finally:
        os.close(descriptor)


def _text(random: Random, size_bytes: int) -> bytes:
    """Words as logs and sources have them: few of them often, many seldom."""
    words = [b"%x" % random.getrandbits(24) for _ in range(_WORDS)]
    lines = []
    length = 0
    while length < size_bytes:
        line = b" ".join(words[int(_WORDS * random.random() ** 3)] for _ in range(40)) + b"\n"
        lines.append(line)
        length += len(line)
    return b"".join(lines)[:size_bytes]


def _file(random: Random, text: bytes, size_bytes: int) -> bytes:
    """A file of an installation: text, or a program, which compresses to about half."""
    if random.random() < 0.5:
        start = random.randrange(max(1, len(text) - size_bytes))
        return text[start : start + size_bytes].ljust(size_bytes, b"\n")
    half = size_bytes // 2
    return random.randbytes(half) + text[:half].ljust(size_bytes - half, b"\0")


def fresh_install(path: Path, size_bytes: int, random: Random) -> None:
    """A file system after installation: files of all sizes, two fifths full, the rest holes."""
    text = _text(random, min(4 * MIB, size_bytes))
    with _opened(path, size_bytes) as disk:
        place, stop = 0, size_bytes * 2 // 5
        while place < stop:
            length = min(1 << random.randrange(10, 21), size_bytes // 8, stop - place)
            os.pwrite(disk, _file(random, text, length), place)
            place += -(-length // _PAGE) * _PAGE
            if random.random() < 0.05:
                place += _PAGE * random.randrange(64)


def random_changes(path: Path, size_bytes: int, random: Random) -> None:
    """One page in a hundred written anew, anywhere in the used part."""
    used = size_bytes * 2 // 5 // _PAGE
    with _opened(path, size_bytes) as disk:
        for index in random.sample(range(used), max(1, used // 100)):
            os.pwrite(disk, random.randbytes(_PAGE), index * _PAGE)


def database(path: Path, size_bytes: int, random: Random) -> None:
    """A database of pages of 8 KiB: a header, rows that compress, room at the end."""
    with _opened(path, size_bytes) as disk:
        for index in range(size_bytes * 3 // 4 // _DATABASE_PAGE):
            os.pwrite(disk, _database_page(random, index), index * _DATABASE_PAGE)


def _database_page(random: Random, index: int) -> bytes:
    rows = b"".join(
        b"%012d account %08x balance 0000000000 " % (index * 64 + row, random.getrandbits(32))
        for row in range(120)
    )
    return (random.randbytes(24) + rows).ljust(_DATABASE_PAGE, b"\0")[:_DATABASE_PAGE]


def page_writes(path: Path, size_bytes: int, random: Random) -> None:
    """Transactions: pages written anew, most of them in the hottest tenth."""
    pages = size_bytes * 3 // 4 // _DATABASE_PAGE
    with _opened(path, size_bytes) as disk:
        for _ in range(max(1, pages // 50)):
            hot = random.random() < 0.8
            index = random.randrange(max(1, pages // 10) if hot else pages)
            os.pwrite(disk, _database_page(random, index), index * _DATABASE_PAGE)


def log_appends(path: Path, size_bytes: int, random: Random) -> None:
    """A log that grows by a hundredth of the disk behind what is used, and is flushed often."""
    text = _text(random, max(_PAGE, size_bytes // 100))
    with _opened(path, size_bytes) as disk:
        start = size_bytes * 2 // 5
        for at in range(0, len(text), 1000):
            os.pwrite(disk, text[at : at + 1000], start + at)


def clone(path: Path, size_bytes: int, random: Random) -> None:
    """What a machine made from the same image writes at its first start: names, keys, caches."""
    with _opened(path, size_bytes) as disk:
        for _ in range(20):
            place = random.randrange(size_bytes * 2 // 5 // _PAGE) * _PAGE
            os.pwrite(disk, random.randbytes(_PAGE * random.randrange(1, 5)), place)


def incompressible(path: Path, size_bytes: int, random: Random) -> None:
    """Noise, as encrypted or compressed data are: nothing is saved on it."""
    with _opened(path, size_bytes) as disk:
        for place in range(0, size_bytes, MIB):
            os.pwrite(disk, random.randbytes(min(MIB, size_bytes - place)), place)


def sparse(path: Path, size_bytes: int, random: Random) -> None:
    """Pages far apart in a disk that is nothing but holes beside them."""
    with _opened(path, size_bytes) as disk:
        for _ in range(max(4, size_bytes // (64 * MIB))):
            place = random.randrange(size_bytes // _PAGE) * _PAGE
            os.pwrite(disk, random.randbytes(_PAGE), place)


WORKLOADS = (
    Workload("random", "fresh install, then 1 % of its pages anew", fresh_install, random_changes),
    Workload("database", "database, then writes of its pages", database, page_writes),
    Workload("log", "fresh install, then a log that grows", fresh_install, log_appends),
    Workload("clone", "fresh install, then another machine made from it", fresh_install, clone),
    Workload(
        "noise", "incompressible, then 1 % of its pages anew", incompressible, random_changes
    ),
    Workload("sparse", "sparse, then more pages far apart", sparse, sparse),
)
