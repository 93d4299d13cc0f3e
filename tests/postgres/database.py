"""A PostgreSQL with its data on one disk and its write-ahead log on another."""

import os
import shutil
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path

from tests.tools import lacking, require_root, require_tool, run

USER = "postgres"
BOUND_SECONDS = "60"

_SETTINGS = """
listen_addresses = ''
unix_socket_permissions = 0777
shared_buffers = 32MB
max_wal_size = 64MB
min_wal_size = 32MB
checkpoint_timeout = 30s
# Nothing but the disk stands between a commit and its acknowledgement.
fsync = on
synchronous_commit = on
full_page_writes = on
"""


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs, of the newest version there is."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*"), key=lambda p: float(p.name))
    if not versions or not (versions[-1] / "bin" / name).exists():
        lacking(f"PostgreSQL's '{name}' is not installed: apt-get install postgresql")
    return str(versions[-1] / "bin" / name)


def require_postgres() -> None:
    """Skip the test unless a PostgreSQL can be run on loop devices here."""
    require_root()
    for name, package in (
        ("fusermount3", "fuse3"),
        ("mke2fs", "e2fsprogs"),
        ("losetup", "mount"),
        ("runuser", "util-linux"),
    ):
        require_tool(name, package=package)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        lacking("needs /dev/fuse")
    program("pg_amcheck")


def as_postgres(name: str, *arguments: str | Path) -> list[str]:
    return ["runuser", "-u", USER, "--", program(name), *map(str, arguments)]


class Database:
    """A server on the disks mounted at *data* and *log*, reached through *sockets* alone."""

    def __init__(self, data: Path, log: Path, sockets: Path) -> None:
        self._cluster = data / "cluster"
        self._wal = log / "wal"
        self._sockets = sockets
        self._messages = sockets / "server.log"
        sockets.mkdir()
        shutil.chown(sockets, USER)

    def make(self) -> None:
        """Make an empty cluster, with checksums, so that a torn page shows when it is read."""
        for folder in (self._cluster.parent, self._wal.parent):
            shutil.chown(folder, USER)
        run(
            *as_postgres("initdb", "-D", self._cluster, "--waldir", self._wal),
            *("--data-checksums", "--auth=trust", "--no-locale", "--encoding=UTF8"),
        )
        with (self._cluster / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS)
            file.flush()
            # Nobody else does: a cut, like a power cut, may find zeros in its place.
            os.fsync(file.fileno())

    def adopt(self) -> None:
        """Make what was restored one that can start: as after a power cut, only elsewhere."""
        link = self._cluster / "pg_wal"
        link.unlink()
        link.symlink_to(self._wal)
        # The process that it names is alive: it is the server that was snapshotted.
        (self._cluster / "postmaster.pid").unlink()

    def start(self, stack: ExitStack) -> None:
        """Start the server; it is stopped when *stack* closes, as if it crashed."""
        run(*self._control("start"))
        stack.callback(run, *self._control("stop"))

    def starts(self) -> bool:
        """Whether the server comes up; it is stopped again."""
        done = subprocess.run(self._control("start"), check=False, capture_output=True)
        if done.returncode == 0:
            run(*self._control("stop"))
        return done.returncode == 0

    @property
    def messages(self) -> str:
        """What the server said."""
        return self._messages.read_text()

    def query(self, text: str) -> str:
        return run(*self._client("psql", "-X", "-q", "-At", "-c", text, "postgres")).strip()

    def fill(self) -> None:
        """Make pgbench's tables, and one for what is acknowledged."""
        run(*self._client("pgbench", "-i", "-q", "-s", "2", "postgres"))
        self.query("CREATE TABLE acknowledged (id bigint PRIMARY KEY, at timestamptz)")
        self.query("CREATE EXTENSION amcheck")

    def load(self, stack: ExitStack) -> None:
        """Run pgbench until *stack* closes."""
        command = self._client("pgbench", "-n", "-c", "4", "-j", "2", "-T", "3600", "postgres")
        bench = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(bench.wait)
        stack.callback(bench.terminate)

    def check(self) -> None:
        """Every table and index of every database is sound."""
        run(*self._client("pg_amcheck", "--all", "--install-missing", "--heapallindexed"))

    def acknowledger(self, stack: ExitStack) -> "Acknowledger":
        return Acknowledger(stack, self._client("psql", "-X", "-q", "-At", "postgres"))

    def _client(self, name: str, *arguments: str) -> list[str]:
        return as_postgres(name, "-h", self._sockets, *arguments)

    def _control(self, verb: str) -> list[str]:
        options = ["-D", self._cluster, "-w", "-t", BOUND_SECONDS]
        if verb == "stop":
            return as_postgres("pg_ctl", verb, *options, "-m", "immediate")
        sockets = f"-c unix_socket_directories={self._sockets}"
        return as_postgres("pg_ctl", verb, *options, "-l", self._messages, "-o", sockets)


class Acknowledger:
    """A client that commits the ids 1, 2, 3 ... one by one, and knows how far it came.

    Stops when *stack* closes.
    """

    def __init__(self, stack: ExitStack, command: list[str]) -> None:
        self.begun = 0  # the id that was sent last
        self.acknowledged = 0  # the id whose commit was acknowledged last
        self._progress = threading.Condition()
        self._is_stopping = False
        self._psql = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._thread = threading.Thread(target=self._insert)
        self._thread.start()
        stack.callback(self._stop)

    def wait_for_more(self, count: int) -> None:
        """Wait until *count* more ids have been acknowledged than now."""
        with self._progress:
            wanted = self.acknowledged + count
            assert self._progress.wait_for(
                lambda: self.acknowledged >= wanted, float(BOUND_SECONDS)
            ), f"only {self.acknowledged} of {wanted} ids were acknowledged"

    def _insert(self) -> None:
        assert self._psql.stdin is not None
        assert self._psql.stdout is not None
        while not self._is_stopping:
            number = self.begun + 1
            self.begun = number
            statement = f"INSERT INTO acknowledged VALUES ({number}, now()) RETURNING id;\n"
            self._psql.stdin.write(statement)
            self._psql.stdin.flush()
            if self._psql.stdout.readline().strip() != str(number):
                return  # the server has gone: what waits for more says so
            with self._progress:
                self.acknowledged = number
                self._progress.notify_all()

    def _stop(self) -> None:
        self._is_stopping = True
        self._thread.join()
        self._psql.communicate(timeout=float(BOUND_SECONDS))
