"""What a store of named immutable objects must offer: packs and manifests live in one.

Names are relative, of lower-case letters, digits, ``-``, ``.`` and at most one ``/``
(a folder: ``packs/…``, ``snapshots/…``); ``object_names.py`` checks them.  Implemented by a
directory (``local_directory.py``) and by memory (``memory.py``), under one contract suite.

1. An object appears whole, under its name, or not at all.
2. When ``seal`` or ``put`` returns, the object survives a power cut; when ``delete`` returns,
   so does its absence.
3. A sealed object never changes, except that ranges of it become zeros (``punch``) and that
   ``put`` replaces it whole.
4. Nothing of a writer outlives its process but what ``discard_unsealed`` removes.

A failed disk call raises ``StorageUnavailable`` or ``StorageFull`` from any method.  All
methods of a backend may be called from many threads at once.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from ebsim.system_calls import Buffer as Buffer


class ObjectWriter(Protocol):
    """An object being written; nobody sees it until ``seal``."""

    @property
    def size_bytes(self) -> int:
        """What has been appended so far."""

    def append(self, parts: Sequence[Buffer]) -> int:
        """Write *parts* one after the other; return the offset of the first byte.

        The parts may be reused by the caller as soon as the call returns.  Not safe to
        call from two threads at once.
        """

    def seal(self) -> None:
        """Make the object durable, then visible under its name, durably.

        After it returns the object survives a power cut.  ``append`` is over.
        """

    def discard(self) -> None:
        """Forget the object.  Harmless after ``seal`` and when called twice."""


class Backend(Protocol):
    """Named immutable objects."""

    def create(self, name: str) -> ObjectWriter:
        """Begin the object *name*.  Its name is taken only by ``seal``.

        Raises:
            Conflict: an object of that name exists (seen here, or at ``seal``).
        """

    def put(self, name: str, data: bytes) -> None:
        """Write a small object at once and durably, replacing one of the same name whole."""

    def size_bytes(self, name: str) -> int | None:
        """The object's size, or ``None`` where there is no such object."""

    def read(self, name: str, offset_bytes: int, size_bytes: int) -> bytes:
        """Exactly *size_bytes* bytes from *offset_bytes* on, fewer only at the object's end.

        Raises:
            FileNotFoundError: there is no such object (it may have been moved: look again).
        """

    def names(self, folder: str) -> Iterator[str]:
        """The names of all sealed objects in *folder*, in no promised order."""

    def delete(self, name: str) -> None:
        """Remove the object durably; harmless if it is gone already."""

    def punch(self, name: str, offset_bytes: int, size_bytes: int) -> int:
        """Give the space of a range back; it reads as zeros from then on.

        Only whole file-system pages inside the range are given back.  Returns the bytes
        given back, 0 where the storage cannot do it or the object is gone.
        """

    def allocated_bytes(self, name: str) -> int | None:
        """What the object occupies on the device, holes left out; ``None`` if it is gone."""

    def discard_unsealed(self) -> int:
        """Remove what writers of processes that are gone left unsealed; return how many.

        A writer that is alive, in any process, is left alone.
        """

    def close(self) -> None:
        """Release open files."""
