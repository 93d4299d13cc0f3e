"""The order in which a volume's blocks were first asked for.

The next volume made from the same snapshot can load them in that order: a machine boots
from the same blocks every time.  A line of history, not of truth: what is lost of it in
a crash is not missed.
"""

import threading
from array import array
from contextlib import suppress

from ebsim.errors import StorageUnavailable
from ebsim.volumes.volume_folder import VolumeFolder

_KEPT_MAX = 1024
# One block is asked for once; a volume that loses power may ask for some again.
_RECORDED_MAX = 1 << 20


class AccessLog:
    """Appends block indexes to the volume's record.  Safe from many threads."""

    def __init__(self, folder: VolumeFolder) -> None:
        self._files = folder.files
        self._descriptor = folder.files.open_or_create(folder.access)
        try:
            self._end = folder.files.status_of(self._descriptor).st_size // 8 * 8
        except BaseException:
            self._files.close(self._descriptor)
            raise
        self._lock = threading.Lock()
        self._kept = array("Q")

    def append(self, block_index: int) -> None:
        """Note that *block_index* was asked for."""
        with self._lock:
            self._kept.append(block_index)
            if len(self._kept) >= _KEPT_MAX:
                self._write()

    def flush(self) -> None:
        """Write what was kept to the file."""
        with self._lock:
            self._write()

    def close(self) -> None:
        self.flush()
        self._files.close(self._descriptor)

    def _write(self) -> None:
        kept, self._kept = self._kept, array("Q")
        if kept and self._end < _RECORDED_MAX * 8:
            assert kept.itemsize == 8, "an index is 64 bits"
            # A full disk must not fail the read that is noted: the block itself is there.
            with suppress(StorageUnavailable):
                self._files.write(self._descriptor, [_little_endian(kept)], self._end)
                self._end += 8 * len(kept)


def _little_endian(indexes: "array[int]") -> bytes:
    return b"".join(index.to_bytes(8, "little") for index in indexes)
