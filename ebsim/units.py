"""Sizes in bytes: the constants, and how people write and read them."""

import re

from ebsim.errors import InvalidRequest

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

_SUFFIXES = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": TIB}
_SIZE = re.compile(r"([0-9]{1,19})\s*(?:([kmgt])(?:i?b)?|b)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """The bytes that *text* names: ``4096``, ``512K``, ``512KiB``, ``64m``, ``2GiB``.

    Raises:
        InvalidRequest: *text* is no such size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(
            f"'{text}' is not a size. Write bytes, or a number with K, M, G or T: 512K, 2GiB."
        )
    return int(match[1]) * _SUFFIXES[(match[2] or "").lower()]


def format_size(size_bytes: int) -> str:
    """*size_bytes* for people, three significant digits: ``512 KiB``, ``1.46 GiB``."""
    value, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < 1024:
            break
        value, unit = value / 1024, larger
    if unit == "B":
        return f"{size_bytes} B"
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f} {unit}"


def whole_gib(size_bytes: int) -> int:
    """*size_bytes* in GiB, rounded up: the ``VolumeSize`` that EBS reports."""
    return -(-size_bytes // GIB)
