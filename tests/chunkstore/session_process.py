"""A process that opens a session, says its id, and then waits to be killed."""

import sys
from pathlib import Path
from random import SystemRandom

from ebsim.chunkstore.sessions import Sessions


def main() -> None:
    session = Sessions(Path(sys.argv[1]), SystemRandom()).open()
    sys.stdout.write(session.session_id + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    session.close()


if __name__ == "__main__":
    main()
