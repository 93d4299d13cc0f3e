"""Exports, and how requests for one are carried out on its device."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from ebsim.errors import EbsimError, InvalidRequest, ReadOnly, StorageFull
from ebsim.nbd import wire
from ebsim.nbd.export_offer import PAYLOAD_BYTES_MAX, ExportOffer
from ebsim.nbd.requests import Fault, Request
from ebsim.volumes.block_device import BlockDevice, Buffer, MappedDevice, PromptDevice

DIRTY = b"ebsim:dirty"
"""The metadata context that tells what was written since the last snapshot (bit 0)."""
_STATE_DIRTY = 1 << 0

# Enough that a client asks seldom, little enough that it need not wait long.
_DESCRIPTORS_MAX = 4096
_CACHE_STEP_BYTES = 1 << 20

TryRead = Callable[[int, memoryview], bool]
TryWrite = Callable[[int, Buffer], bool]
Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Export:
    """A device under a name.

    *block_size* is the granularity at which the device likes to be used, in bytes: a power
    of two.
    """

    name: str
    description: str
    device: BlockDevice
    is_read_only: bool
    block_size: int

    @property
    def offer(self) -> ExportOffer:
        """The export as a client sees it now."""
        return ExportOffer(
            name=self.name,
            description=self.description,
            size_bytes=self.device.size_bytes,
            is_read_only=self.is_read_only,
            preferred_block_bytes=min(max(self.block_size or 4096, 512), PAYLOAD_BYTES_MAX),
            contexts=(wire.BASE_ALLOCATION, *([DIRTY] if _mapped(self.device) else [])),
        )


class DeviceRequests:
    """Carries out requests on an export's device.  Safe from many threads.

    Nothing here raises: what a device raises becomes an error of the protocol's (section
    "Error values"), and what is no ``EbsimError``, a bug, goes to *log* beside that.
    """

    def __init__(self, export: Export, contexts: dict[int, bytes], log: Log) -> None:
        self._export = export
        self._device = export.device
        self._mapped = _mapped(export.device)
        self._contexts = contexts
        self._log = log
        prompt = cast("PromptDevice", export.device)
        self.try_read: TryRead = getattr(prompt, "try_read_at", _never)
        self.try_write: TryWrite = getattr(prompt, "try_write_at", _never)

    def read(self, request: Request, buffer: memoryview) -> Fault | None:
        """Fill *buffer* for a READ."""
        try:
            self._device.read_at(request.offset_bytes, buffer)
        except Exception as error:  # noqa: BLE001 - a device's bug must not end the server
            return self.fault_of(request, error)
        return None

    def change(self, request: Request, data: Buffer) -> Fault | None:
        """Carry out anything that answers with no more than success or an error."""
        try:
            self._carry_out(request, data)
            if request.flags & wire.FLAG_FUA and request.command != wire.COMMAND_FLUSH:
                self._device.flush()
        except Exception as error:  # noqa: BLE001 - a device's bug must not end the server
            return self.fault_of(request, error)
        return None

    def block_status(self, request: Request) -> dict[int, list[tuple[int, int]]] | Fault:
        """For each selected context the descriptors of a BLOCK_STATUS."""
        try:
            return {
                context_id: self._descriptors(context, request)
                for context_id, context in self._contexts.items()
            }
        except Exception as error:  # noqa: BLE001 - a device's bug must not end the server
            return self.fault_of(request, error)

    def fault_of(self, request: Request, error: Exception) -> Fault:
        """What the client is told of *error*."""
        if isinstance(error, StorageFull):
            return Fault(wire.ENOSPC, str(error))
        if isinstance(error, ReadOnly):
            return Fault(wire.EPERM, str(error))
        if isinstance(error, InvalidRequest):
            return Fault(wire.EINVAL, str(error))
        if not isinstance(error, EbsimError):
            self._log(
                f"nbd: export '{self._export.name}': command {request.command} at byte "
                f"{request.offset_bytes}, length {request.length}, failed by a bug: "
                f"{type(error).__name__}: {error}. The client got an I/O error."
            )
        return Fault(wire.EIO, str(error))

    def _carry_out(self, request: Request, data: Buffer) -> None:
        command, offset, length = request.command, request.offset_bytes, request.length
        if command == wire.COMMAND_FLUSH:
            self._device.flush()
        elif length == 0:
            pass  # the specification leaves it open; nothing is what was asked for
        elif command == wire.COMMAND_WRITE:
            self._device.write_at(offset, data)
        elif command == wire.COMMAND_TRIM:
            self._device.trim(offset, length)
        elif command == wire.COMMAND_WRITE_ZEROES:
            # FAST_ZERO wants no zeros written out: a device never does that.
            allocate = bool(request.flags & wire.FLAG_NO_HOLE)
            self._device.zero_at(offset, length, allocate=allocate)
        else:
            assert command == wire.COMMAND_CACHE, "the parser lets through what is known"
            self._fetch(offset, min(length, PAYLOAD_BYTES_MAX))

    def _fetch(self, offset: int, length: int) -> None:
        """Read it and let it go: a hint, so the start of a long range is enough."""
        buffer = memoryview(bytearray(min(length, _CACHE_STEP_BYTES)))
        for start in range(0, length, _CACHE_STEP_BYTES):
            self._device.read_at(offset + start, buffer[: length - start])

    def _descriptors(self, context: bytes, request: Request) -> list[tuple[int, int]]:
        if self._mapped is None:
            # Section "Request types": a status of 0 is always right.
            return [(request.length, 0)]
        return clipped(
            self._states(self._mapped, context, request.offset_bytes, request.length),
            request.length,
            count_max=1 if request.flags & wire.FLAG_REQUEST_ONE else _DESCRIPTORS_MAX,
        )

    def _states(
        self, mapped: MappedDevice, context: bytes, offset: int, length: int
    ) -> Iterator[tuple[int, int]]:
        if context == DIRTY:
            for changed in mapped.dirty(offset, length):
                yield changed.length, _STATE_DIRTY if changed.is_dirty else 0
        else:
            for piece in mapped.allocation(offset, length):
                hole = wire.STATE_HOLE if piece.is_hole else 0
                yield piece.length, hole | (wire.STATE_ZERO if piece.is_zero else 0)


def clipped(
    states: Iterable[tuple[int, int]], length: int, *, count_max: int
) -> list[tuple[int, int]]:
    """The first descriptors of *states*, equal neighbours joined, none past *length* in all."""
    descriptors: list[tuple[int, int]] = []
    left = length
    for size, state in states:
        size = min(size, left)
        left -= size
        if descriptors and descriptors[-1][1] == state:
            descriptors[-1] = (descriptors[-1][0] + size, state)
        elif len(descriptors) == count_max:
            break
        else:
            descriptors.append((size, state))
        if left == 0:
            break
    assert descriptors, "a device describes at least one byte"
    return descriptors


def log_to_stderr(line: str) -> None:
    """Print *line* on standard error."""
    sys.stderr.write(line + "\n")


def _mapped(device: BlockDevice) -> MappedDevice | None:
    return cast("MappedDevice", device) if hasattr(device, "allocation") else None


def _never(_offset_bytes: int, _buffer: Buffer) -> bool:
    """The ``try`` methods of a device that has none."""
    return False
