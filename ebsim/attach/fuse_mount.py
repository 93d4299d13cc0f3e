"""Snapshots and volumes shown as files, until the directory is unmounted.

Who does what::

    main thread      waits for events: mounted, ended, a signal
    "fuse" thread    inside libfuse for as long as the mount lives
    libfuse's own    answer requests, several at once

Nothing forks: the devices' threads were started before, and would be missing in a child.

How it ends:

1. Unmounted from outside, by ``fusermount3 -u`` or ``umount``.
2. A signal: what is open is flushed and the directory unmounted.  If something still uses
   it, the directory is out of sight at once, and what is open is served until it is closed.
3. A second signal: what is open is flushed and given up; its users get errors.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from types import ModuleType

from ebsim.attach.fuse_events import Event, Events
from ebsim.attach.fuse_library import find_unmounter, load_library, may_let_root_in
from ebsim.attach.fuse_mount_point import Unmounted, unmount, usable_mount_point
from ebsim.attach.fuse_open_images import OpenImages
from ebsim.attach.fuse_operations import FuseOperations
from ebsim.attach.fuse_shelf import Shelf
from ebsim.errors import EbsimError, TargetUnusable

_OPTIONS: dict[str, bool | str | int] = {
    "foreground": True,
    "fsname": "ebsim",
    "subtype": "ebsim",
    "default_permissions": True,
    # See ``fuse_operations``: others write to the volumes too, and images come and go.
    "direct_io": True,
    "entry_timeout": 0,
    "negative_timeout": 0,
    "attr_timeout": 0,
}

_THREADS_MAX = 16
"""Requests that are answered at once; a read may wait for the store meanwhile."""


def mount_shelf(
    shelf: Shelf,
    mount_point: Path,
    *,
    on_ready: Callable[[], None],
    on_still_used: Callable[[], None] = lambda: None,
    on_failure: Callable[[EbsimError], None] = lambda _error: None,
    home: Path | None = None,
) -> None:
    """Show *shelf* at the directory *mount_point*, and return when that is unmounted.

    Called by the main thread, and takes its signals meanwhile: see above.  After a second
    signal libfuse's threads may still be there, answering every request with an error; the
    process is expected to end.

    Args:
        on_ready: The images can be seen.
        on_still_used: A signal came, and something has an image open.
        on_failure: Why a user of the mount got ``EIO``, ``ENOSPC`` or ``EBUSY``.  Called
            from many threads.
        home: The store, which *mount_point* may not lie in.

    Raises:
        MissingTool: mfusepy, libfuse 3 or fusermount3 is not installed.
        TargetUnusable: *mount_point* cannot be mounted at.
    """
    library = load_library()
    unmounter = find_unmounter()
    place = usable_mount_point(mount_point, home=home)
    with ExitStack() as at_the_end:
        events = at_the_end.enter_context(Events())
        images = OpenImages(shelf, on_failure)
        at_the_end.callback(images.close)
        operations = FuseOperations(
            shelf,
            images,
            on_start=lambda: events.tell(Event.MOUNTED),
            on_failure=on_failure,
        )
        session = _Session(library, operations, place, events)

        def leave() -> None:
            images.flush()
            if unmount(unmounter, place) is Unmounted.WHEN_UNUSED:
                on_still_used()

        with _SameDirectory() as directory:
            session.start()
            try:
                _follow(events, directory.come_back, on_ready, leave)
            except BaseException:
                unmount(unmounter, place)
                raise
        if session.failure is not None:
            raise TargetUnusable(
                f"cannot mount at {place}: libfuse {session.failure}; its own message is above. "
                "Nothing was changed. See that /dev/fuse can be used and that the directory is "
                "yours, then try again."
            )


def _follow(
    events: Events,
    come_back: Callable[[], None],
    on_ready: Callable[[], None],
    leave: Callable[[], None],
) -> None:
    """Do what the events ask for, until there is nothing left to serve."""
    is_mounted = is_leaving = False
    while True:
        match events.wait():
            case Event.ENDED:
                return
            case Event.MOUNTED:
                is_mounted = True
                come_back()
                if is_leaving:
                    leave()
                else:
                    on_ready()
            case Event.ASKED_TO_END:
                if is_leaving:
                    return
                is_leaving = True
                if is_mounted:
                    leave()


class _Session(Thread):
    """The life of a mount inside libfuse.

    A daemon: when its users are given up, it must not keep the process from ending.
    """

    def __init__(
        self, library: ModuleType, operations: FuseOperations, place: Path, events: Events
    ) -> None:
        super().__init__(name="fuse", daemon=True)
        self._library = library
        self._operations = operations
        self._place = place
        self._events = events
        self.failure: str | None = None

    def run(self) -> None:
        try:
            self._library.FUSE(self._operations, os.fspath(self._place), **_options(self._library))
        except RuntimeError as error:  # what libfuse's main function returns, if not 0
            self.failure = f"gave up with code {error}"
        finally:
            self._events.tell(Event.ENDED)


def _options(library: ModuleType) -> dict[str, bool | str | int]:
    threads = {"max_idle_threads": _THREADS_MAX}
    if library.fuse_version_minor >= 12:  # unbounded and unknown before
        threads["max_threads"] = _THREADS_MAX
    return _OPTIONS | threads | {"allow_root": may_let_root_in(os.geteuid())}


class _SameDirectory:
    """The working directory, which libfuse leaves for ``/`` when it begins."""

    def __enter__(self) -> "_SameDirectory":
        self._fd = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def come_back(self) -> None:
        os.fchdir(self._fd)

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)
