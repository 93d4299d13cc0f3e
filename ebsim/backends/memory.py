"""Objects in memory: the fake that tests use in place of a directory.

It keeps the backend's contract for threads of one process, which is where it lives: a
"process that is gone" is simulated by :meth:`Memory.abandon_writers`.
"""

import threading
from collections.abc import Iterator, Sequence

from ebsim.backends.backend import ObjectWriter
from ebsim.backends.object_names import check_folder_name, check_object_name, name_taken
from ebsim.system_calls import Buffer

_PAGE = 4096


class Memory:
    """The :class:`Backend` of a dictionary."""

    __slots__ = ("_abandoned", "_lock", "_objects", "_writers")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, _Object] = {}
        self._writers: set[_MemoryWriter] = set()
        self._abandoned: set[_MemoryWriter] = set()

    def create(self, name: str) -> ObjectWriter:
        if self.size_bytes(name) is not None:
            raise name_taken(name)
        writer = _MemoryWriter(self, name)
        with self._lock:
            self._writers.add(writer)
        return writer

    def put(self, name: str, data: bytes) -> None:
        check_object_name(name)
        with self._lock:
            self._objects[name] = _Object(data)

    def size_bytes(self, name: str) -> int | None:
        found = self._find(name)
        return None if found is None else len(found.data)

    def read(self, name: str, offset_bytes: int, size_bytes: int) -> bytes:
        found = self._find(name)
        if found is None:
            raise FileNotFoundError(name)
        return found.data[offset_bytes : offset_bytes + size_bytes]

    def names(self, folder: str) -> Iterator[str]:
        check_folder_name(folder)
        with self._lock:
            names = list(self._objects)
        return (name for name in names if name.rpartition("/")[0] == folder)

    def delete(self, name: str) -> None:
        check_object_name(name)
        with self._lock:
            self._objects.pop(name, None)

    def punch(self, name: str, offset_bytes: int, size_bytes: int) -> int:
        check_object_name(name)
        with self._lock:
            found = self._objects.get(name)
            if found is None or size_bytes <= 0:
                return 0
            return found.punch(offset_bytes, size_bytes)

    def allocated_bytes(self, name: str) -> int | None:
        found = self._find(name)
        return None if found is None else found.allocated_bytes

    def discard_unsealed(self) -> int:
        with self._lock:
            count = len(self._abandoned)
            self._abandoned.clear()
        return count

    def close(self) -> None:
        """Nothing is open; the objects stay for whoever uses the same ``Memory`` again."""

    def abandon_writers(self) -> None:
        """Pretend that the process of every unsealed writer was killed."""
        with self._lock:
            self._abandoned |= self._writers
            self._writers.clear()

    def finish(self, writer: "_MemoryWriter", data: bytes | None) -> None:
        """End *writer*, and give its name to *data* unless that is ``None``."""
        with self._lock:
            assert writer in self._writers, "a killed process writes nothing"
            if data is not None:
                if writer.name in self._objects:
                    raise name_taken(writer.name)
                self._objects[writer.name] = _Object(data)
            self._writers.remove(writer)

    def _find(self, name: str) -> "_Object | None":
        check_object_name(name)
        with self._lock:
            return self._objects.get(name)


class _MemoryWriter:
    """An object that grows in memory until it is sealed."""

    __slots__ = ("_data", "_is_over", "_memory", "name")

    def __init__(self, memory: Memory, name: str) -> None:
        self.name = name
        self._memory = memory
        self._data = bytearray()
        self._is_over = False

    @property
    def size_bytes(self) -> int:
        return len(self._data)

    def append(self, parts: Sequence[Buffer]) -> int:
        assert not self._is_over, f"{self.name} is sealed or discarded"
        offset_bytes = len(self._data)
        for part in parts:
            self._data += part
        return offset_bytes

    def seal(self) -> None:
        assert not self._is_over, f"{self.name} is sealed or discarded"
        self._memory.finish(self, bytes(self._data))
        self._is_over = True

    def discard(self) -> None:
        if not self._is_over:
            self._memory.finish(self, None)
            self._is_over = True


class _Object:
    """Sealed bytes, and which of their pages were given back."""

    __slots__ = ("_holes", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._holes: set[int] = set()

    @property
    def allocated_bytes(self) -> int:
        return (-(-len(self.data) // _PAGE) - len(self._holes)) * _PAGE

    def punch(self, offset_bytes: int, size_bytes: int) -> int:
        stop = min(offset_bytes + size_bytes, len(self.data))
        if offset_bytes >= stop:
            return 0
        before = self.allocated_bytes
        self.data = self.data[:offset_bytes] + bytes(stop - offset_bytes) + self.data[stop:]
        self._holes.update(range(-(-offset_bytes // _PAGE), stop // _PAGE))
        return before - self.allocated_bytes
