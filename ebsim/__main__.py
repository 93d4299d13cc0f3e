"""The command ``ebsim``, also run as ``python -m ebsim``.

A start makes tens of thousands of objects, all of which stay, and Python would look through
them for garbage every 700: a tenth of the time that the start takes.  So it looks less often,
from before anything else is imported, and not at all through what is left at the end.
"""

import gc
import sys

gc.set_threshold(50_000)

from ebsim.cli.main import main as run  # noqa: E402 (behind the line that makes it cheaper)


def main() -> int:
    """Run the command line of this process and return the exit code."""
    code = run()
    gc.freeze()
    return code


if __name__ == "__main__":
    sys.exit(main())
