"""Large new files: gathered in memory, written in big pieces past the page cache.

A pack is written once and hardly ever read soon after.  Through the page cache each of
its pages is found, copied into and written back again, which cost 1.2 to 2.0 s for 500 MB
on the machine this was measured on, most of it processor time taken from compression;
straight from an aligned buffer the same bytes took 0.3 s.  The cache is left to the disks
that are being read.

Where the file system cannot write directly (tmpfs, some network ones) the same pieces go
through the cache.
"""

import errno
from collections.abc import Sequence
from pathlib import Path

from ebsim.background_writes import BackgroundWrites
from ebsim.durable_files import Files, NewFile
from ebsim.errors import StorageUnavailable
from ebsim.system_calls import Buffer
from ebsim.units import MIB

STAGE_SIZE = 4 * MIB
"""A piece: a multiple of every alignment that direct writing asks for."""


class StagedFile(NewFile):
    """A ``NewFile`` for much data.  What was appended may still be in memory until
    ``publish``; a failure to write it shows in a later ``append`` or there."""

    __slots__ = ("_bypasses_cache", "_staged_bytes", "_writes")

    def __init__(self, files: Files, target: Path) -> None:
        super().__init__(files, target)
        self._writes = BackgroundWrites(self._write_piece, STAGE_SIZE)
        self._staged_bytes = 0
        try:
            self._bypasses_cache = files.bypass_cache(self._descriptor, bypass=True)
        except BaseException:
            self.discard()
            raise

    def append(self, parts: Sequence[Buffer]) -> int:
        self._begin_step()
        offset_bytes = self.size_bytes
        for part in parts:
            rest = memoryview(part).cast("B")
            while rest:
                count = min(len(rest), STAGE_SIZE - self._staged_bytes)
                stop = self._staged_bytes + count
                self._writes.buffer[self._staged_bytes : stop] = rest[:count]
                self._staged_bytes = stop
                self.size_bytes += count
                rest = rest[count:]
                if stop == STAGE_SIZE:
                    self._staged_bytes = 0
                    self._writes.hand_over(STAGE_SIZE, self.size_bytes - STAGE_SIZE)
        self._is_broken = False
        return offset_bytes

    def publish(self, *, replace: bool) -> None:
        self._begin_step()
        self._writes.finish()
        # The last piece is of any length, which only the cache takes.
        if self._bypasses_cache:
            self._stop_bypassing()
        last = self._writes.buffer[: self._staged_bytes]
        self._write_piece(last, self.size_bytes - len(last))
        del last
        self._writes.close()
        self._is_broken = False
        super().publish(replace=replace)

    def discard(self) -> None:
        self._writes.cancel()
        self._writes.close()
        super().discard()

    def _write_piece(self, piece: memoryview, offset_bytes: int) -> None:
        try:
            self._files.write(self._descriptor, [piece], offset_bytes)
        except StorageUnavailable as error:
            # Some file systems take the flag and refuse the write, and a write that was
            # cut short may leave a rest that is not aligned.
            if error.error_number != errno.EINVAL or not self._bypasses_cache:
                raise
            self._stop_bypassing()
            self._files.write(self._descriptor, [piece], offset_bytes)

    def _stop_bypassing(self) -> None:
        self._files.bypass_cache(self._descriptor, bypass=False)
        self._bypasses_cache = False
