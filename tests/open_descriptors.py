"""What this process has open, to tell whether something was left open."""

from collections import Counter
from pathlib import Path


def open_descriptors(below: Path | None = None) -> Counter[str]:
    """How many descriptors there are of each thing that the process has open.

    Tests assert ``open_descriptors() <= before``: nothing is open now that was not before.
    Never that the two are equal, or equally many: what a test before this one left behind
    may be closed at any time in between.

    Args:
        below: Count only what lies below this directory.  If that is the test's own, what
            it finds there may be counted, because nobody else opens or closes it.
    """
    found: Counter[str] = Counter()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = link.readlink()
        except FileNotFoundError:  # this directory's own, or closed by another thread
            continue
        if below is None or target.is_relative_to(below):
            found[str(target)] += 1
    return found
