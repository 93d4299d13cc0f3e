"""Where events go: the sinks of a region, and those of its home, which every region has.

    HOME/event-sinks/NAME.json                  {"name", "kind", "target", "pattern", ...}
    HOME/regions/REGION/event-sinks/NAME.json   likewise, for one region
    HOME/regions/REGION/event-sinks/*.lock      locked by whoever delivers to that sink

The folders are their owner's alone (mode 0700): a webhook's file has its secret.  A sink is
its file; how far it is in a region's log, the region's metadata say (``event_log.Cursor``).
"""

import base64
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ebsim.catalog.event_log import Cursor, cursors, newest_sequence, put_cursor, remove_cursor
from ebsim.catalog.event_pattern import EventPattern
from ebsim.durable_files import Files, write_atomically
from ebsim.engine.region import Region
from ebsim.errors import Conflict, InvalidRequest, MetadataCorrupt, NotFound
from ebsim.metadata.transactions import Reader, Transaction

SINKS = "event-sinks"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}")
_SUFFIX = ".json"
_SIZE_MAX = 1 << 16
_SECRET_BYTES = 24
_OF_HOME = "home/"


class SinkKind(StrEnum):
    """How a sink takes events."""

    LOG = "log"
    WEBHOOK = "webhook"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class Sink:
    """A sink.

    Attributes:
        target: The log's path, the webhook's URL, or the command.
        pattern: The event pattern that chooses what it gets; ``""`` is everything.
        since_ns: It gets events of then and later.
        is_of_home: It gets the events of every region.
        secret: What a webhook's requests are signed with.
    """

    name: str
    kind: SinkKind
    target: str
    pattern: str
    since_ns: int
    is_of_home: bool
    secret: str = ""

    def __repr__(self) -> str:
        """Without the secret: a record that is printed must not tell it."""
        return f"Sink({self.key}, {self.kind}, {self.target})"

    @property
    def key(self) -> str:
        """What its cursor is filed under."""
        return f"{_OF_HOME}{self.name}" if self.is_of_home else self.name


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """A sink, and how it is doing in one region.

    Attributes:
        waiting_count: Events behind its cursor, wanted or not.
    """

    sink: Sink
    cursor: Cursor
    waiting_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkOptions:
    """What a new sink is to be.

    Attributes:
        from_beginning: It gets what is in the log already.
    """

    kind: SinkKind
    target: str
    pattern: str = ""
    is_of_home: bool = False
    from_beginning: bool = False

    def check(self) -> None:
        """Refuse a target or a pattern that is none."""
        if self.pattern:
            EventPattern(self.pattern)
        if self.kind is SinkKind.WEBHOOK:
            _check_url(self.target)
        elif self.kind is SinkKind.COMMAND:
            split_command(self.target)
        elif not Path(self.target).is_absolute():
            raise InvalidRequest(
                f"the log '{self.target}' is no absolute path. No sink was made. Others than you "
                "deliver to it, from elsewhere."
            )


def add_sink(region: Region, name: str, options: SinkOptions) -> Sink:
    """Send events to somewhere from now on.

    Raises:
        InvalidRequest: the name, the target or the pattern is none.
        Conflict: there is a sink of that name already.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidRequest(
            f"'{name}' is no name of a sink: up to 64 letters, digits, dashes and underscores. "
            "No sink was made."
        )
    options.check()
    secret = ""
    if options.kind is SinkKind.WEBHOOK:
        secret = base64.b64encode(region.random.randbytes(_SECRET_BYTES)).decode()
    sink = Sink(
        name=name,
        kind=options.kind,
        target=options.target,
        pattern=options.pattern,
        since_ns=0 if options.from_beginning else region.clock.now_ns(),
        is_of_home=options.is_of_home,
        secret=secret,
    )
    folder = _folder(region, sink)
    if region.files.status(folder / f"{name}{_SUFFIX}") is not None:
        raise Conflict(f"there is a sink {name} already. Nothing was changed.")

    def begin(txn: Transaction) -> None:
        # What it does not want is passed over when it is delivered to first.
        put_cursor(txn, sink.key, Cursor(0 if options.from_beginning else newest_sequence(txn)))

    # The cursor first: a sink without one would keep no event from being dropped.
    region.metadata.run(begin)
    _write(region.files, folder, sink)
    return sink


def remove_sink(region: Region, name: str, *, is_of_home: bool = False) -> Sink:
    """Send nothing to the sink any more; what it has not got yet, it never gets.

    Raises:
        NotFound: there is none.
    """
    sink = get_sink(region, name, is_of_home=is_of_home)
    folder = _folder(region, sink)
    region.files.unlink(folder / f"{name}{_SUFFIX}")
    region.files.sync_directory(folder)
    region.metadata.run(lambda txn: remove_cursor(txn, sink.key))
    return sink


def get_sink(region: Region, name: str, *, is_of_home: bool = False) -> Sink:
    """The sink of that name.

    Raises:
        NotFound: there is none.
    """
    for sink in list_sinks(region):
        if (sink.name, sink.is_of_home) == (name, is_of_home):
            return sink
    whose = "home" if is_of_home else f"region {region.name}"
    raise NotFound(
        f"the {whose} has no sink '{name}'. Nothing was changed. Run 'ebsim events sink ls'."
    )


def list_sinks(region: Region) -> list[Sink]:
    """The sinks of the region by name, then those of its home.

    Raises:
        MetadataCorrupt: a sink's file is damaged.
    """
    return [
        _read(region.files, folder / name)
        for folder in (region.path / SINKS, region.home / SINKS)
        for name in sorted(region.files.file_names(folder))
        if name.endswith(_SUFFIX) and _NAME.fullmatch(name.removesuffix(_SUFFIX))
    ]


def show_sinks(region: Region) -> list[SinkStatus]:
    """The sinks, and how far each is in this region."""
    sinks = list_sinks(region)

    def look(reader: Reader) -> list[SinkStatus]:
        known, newest = cursors(reader), newest_sequence(reader)
        return [
            SinkStatus(sink, cursor, newest - cursor.delivered)
            for sink in sinks
            for cursor in [known.get(sink.key, Cursor(0))]
        ]

    return region.metadata.read(look)


def forget_gone_sinks(region: Region, sinks: Sequence[Sink]) -> None:
    """Keep no events for sinks that are not among *sinks*, all that there are."""
    keys = {sink.key for sink in sinks}

    def forget(txn: Transaction) -> None:
        for key in cursors(txn).keys() - keys:
            remove_cursor(txn, key)

    if region.metadata.read(cursors).keys() - keys:
        region.metadata.run(forget)


def sink_lock(region: Region, sink: Sink) -> Path:
    """The file that whoever delivers to the sink in this region has locked."""
    folder = region.path / SINKS
    if region.files.status(folder) is None:
        _make_folder(region.files, folder)
    return folder / f"{'of-home.' if sink.is_of_home else ''}{sink.name}.lock"


def split_command(command: str) -> list[str]:
    """The words of a command, split as a shell splits them.

    Raises:
        InvalidRequest: there are none, or its quotes do not match.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InvalidRequest(f"{command!r} is no command: {error}. No sink was made.") from error
    if not words:
        raise InvalidRequest("an empty command takes no events. No sink was made.")
    return words


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidRequest(
            f"'{url}' is no address of a webhook. No sink was made. Write https://HOST/PATH."
        )
    if parts.username is not None:
        raise InvalidRequest(
            "an address with a user's name in it is not supported. No sink was made. A webhook "
            "knows ebsim by its signature."
        )


def _folder(region: Region, sink: Sink) -> Path:
    return (region.home if sink.is_of_home else region.path) / SINKS


def _make_folder(files: Files, folder: Path) -> None:
    files.make_directories(folder)
    folder.chmod(0o700)


def _write(files: Files, folder: Path, sink: Sink) -> None:
    # Before there is a secret in it.
    _make_folder(files, folder)
    path = folder / f"{sink.name}{_SUFFIX}"
    write_atomically(files, path, json.dumps(asdict(sink)).encode())
    path.chmod(0o600)


def _read(files: Files, path: Path) -> Sink:
    descriptor = files.open_to_read(path)
    try:
        text = files.read(descriptor, 0, _SIZE_MAX)
    finally:
        files.close(descriptor)
    try:
        values: dict[str, Any] = json.loads(text)
        return Sink(**{**values, "kind": SinkKind(values["kind"])})
    except (ValueError, TypeError, KeyError) as error:
        raise MetadataCorrupt(where=str(path), found=repr(error)) from error
