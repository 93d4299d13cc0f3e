"""Read-only descriptors kept open between reads, safe to share among threads.

1. A descriptor that a thread reads from is never closed: its last user closes it, and the
   cache is one of its users.  (Closed any earlier, its number could name another file.)
2. A file that was unlinked or replaced, by any process, is not served again: its link count
   is zero then, and every read looks at that first.
3. At most *limit* descriptors are open while nobody reads.
"""

import threading
from collections import OrderedDict
from pathlib import Path

from ebsim.durable_files import Files


class DescriptorCache:
    """The files under *root* most recently read, by name."""

    __slots__ = ("_files", "_limit", "_lock", "_open", "_root")

    def __init__(self, files: Files, root: Path, limit: int) -> None:
        self._files = files
        self._root = root
        self._limit = limit
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _SharedDescriptor] = OrderedDict()

    def read(self, name: str, offset_bytes: int, size_bytes: int) -> bytes:
        """Bytes of the file that *name* names now; ``FileNotFoundError`` if it names none."""
        while True:
            shared = self._enter(name)
            try:
                if self._files.status_of(shared.descriptor).st_nlink:
                    return self._files.read(shared.descriptor, offset_bytes, size_bytes)
            finally:
                self._leave(shared)
            self._drop(name, shared)

    def drop(self, name: str) -> None:
        """Forget *name*; its descriptor is closed as soon as nobody reads from it."""
        self._drop(name, None)

    def close(self) -> None:
        """Forget every name.  Reads under way end as they would have; later ones open anew."""
        for name in list(self._open):
            self._drop(name, None)

    def _enter(self, name: str) -> "_SharedDescriptor":
        with self._lock:
            shared = self._open.get(name)
            if shared is not None:
                shared.users += 1
                self._open.move_to_end(name)
                return shared
        return self._open_anew(name)

    def _open_anew(self, name: str) -> "_SharedDescriptor":
        opened = _SharedDescriptor(self._files.open_to_read(self._root / name))
        let_go: list[_SharedDescriptor] = []
        with self._lock:
            if name in self._open:
                let_go.append(self._open.pop(name))
            self._open[name] = opened
            if len(self._open) > self._limit:
                let_go.append(self._open.popitem(last=False)[1])
        for shared in let_go:
            self._leave(shared)
        return opened

    def _drop(self, name: str, only: "_SharedDescriptor | None") -> None:
        """Forget *name*, but if *only* is given, nothing newer than that."""
        with self._lock:
            shared = self._open.get(name)
            if shared is None or (only is not None and shared is not only):
                return
            del self._open[name]
        self._leave(shared)

    def _leave(self, shared: "_SharedDescriptor") -> None:
        with self._lock:
            shared.users -= 1
            is_last = shared.users == 0
        if is_last:
            self._files.close(shared.descriptor)


class _SharedDescriptor:
    """An open file and how many use it."""

    __slots__ = ("descriptor", "users")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.users = 2  # the cache, and the thread that opened it
