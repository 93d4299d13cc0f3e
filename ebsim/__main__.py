"""The command ``ebsim``, also run as ``python -m ebsim``."""

import sys

from ebsim.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
