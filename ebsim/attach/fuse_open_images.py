"""The images that are open in a mount: each is one device, under any number of handles.

Invariants:

1. A device is opened for the first handle on it and released after the last.
2. It is flushed before it is released if any handle on it could write.
3. It is never released while a request uses it.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Lock

from ebsim.attach.fuse_shelf import Shelf
from ebsim.errors import EbsimError
from ebsim.volumes.block_device import BlockDevice

Place = tuple[str, str]
"""An image's folder and name."""


@dataclass(slots=True, eq=False)
class _OpenImage:
    device: BlockDevice
    handles: set[int] = field(default_factory=set)
    was_writable: bool = False


@dataclass(frozen=True, slots=True)
class Handle:
    """What an open file refers to."""

    place: Place
    device: BlockDevice
    is_writable: bool


class OpenImages:
    """The open images of *shelf*, by handle.  Safe from many threads.

    *on_failure* is told what nobody else would hear of: a flush that fails when a file has
    been closed already.
    """

    def __init__(self, shelf: Shelf, on_failure: Callable[[EbsimError], None]) -> None:
        self._shelf = shelf
        self._on_failure = on_failure
        # Held while a device is opened or released, which may take long; requests do not need it.
        self._opening = Lock()
        self._images: dict[Place, _OpenImage] = {}
        self._handles: dict[int, Handle] = {}
        self._last_handle = 0
        self._requests = Condition()
        self._request_count = 0
        self._is_closed = False

    def open(self, place: Place, *, for_writing: bool) -> int:
        """A new handle on the image at *place*.

        Raises:
            EbsimError: as the shelf's ``open``.
        """
        with self._opening:
            self._refuse_if_closed()
            image = self._images.get(place)
            if image is None:
                image = _OpenImage(self._shelf.open(*place))
                self._images[place] = image
            self._last_handle += 1
            number = self._last_handle
            image.handles.add(number)
            image.was_writable |= for_writing
            self._handles[number] = Handle(place, image.device, for_writing)
            return number

    @contextmanager
    def request(self, number: int) -> Iterator[Handle]:
        """The open handle *number*, whose device stays open as long as the context."""
        with self._requests:
            self._refuse_if_closed()
            self._request_count += 1
        try:
            yield self._handles[number]
        finally:
            with self._requests:
                self._request_count -= 1
                if self._is_closed:
                    self._requests.notify_all()

    def release(self, number: int) -> None:
        """Give a handle back.  The kernel sends no more requests for it."""
        with self._opening:
            handle = self._handles.pop(number, None)
            if handle is not None:
                self._drop(handle, number)

    def size_bytes(self, place: Place) -> int | None:
        """The present size of an image, if it is open."""
        image = self._images.get(place)
        return None if image is None else image.device.size_bytes

    def flush(self) -> None:
        """Flush every device that could have been written."""
        with self._opening:
            for image in self._images.values():
                self._flush(image)

    def close(self) -> None:
        """Refuse new requests, wait for those under way, then release every device."""
        with self._requests:
            self._is_closed = True
            self._requests.wait_for(lambda: self._request_count == 0)
        with self._opening:
            for number, handle in list(self._handles.items()):
                del self._handles[number]
                self._drop(handle, number)

    def _drop(self, handle: Handle, number: int) -> None:
        image = self._images[handle.place]
        image.handles.discard(number)
        if image.handles:
            return
        del self._images[handle.place]
        self._flush(image)
        try:
            self._shelf.release(*handle.place, image.device)
        except EbsimError as error:
            self._on_failure(error)

    def _flush(self, image: _OpenImage) -> None:
        if not image.was_writable:
            return
        try:
            image.device.flush()
        except EbsimError as error:
            self._on_failure(error)

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))
