"""What a server keeps of a region for the EBS direct APIs, and does behind their answers."""

import threading
import traceback
from collections.abc import Callable

from ebsim.engine.direct.block_access import BlockAccess
from ebsim.engine.direct.finish_direct_snapshot import settle_direct_snapshots
from ebsim.engine.region import Region
from ebsim.errors import EbsimError

_LOOK_SECONDS = 1.0


class BlockPlane:
    """One region's access to blocks, and the thread that completes snapshots behind.

    The thread looks around every second, and at once when it is asked to: for snapshots
    that are to be completed or have timed out, and for puts' packs that can be merged.
    """

    def __init__(
        self, region: Region, tell_bug: Callable[[str], None], *, listing_lag_seconds: float = 0
    ) -> None:
        self.access = BlockAccess(region, listing_lag_seconds=listing_lag_seconds)
        self._region = region
        self._tell_bug = tell_bug
        self._wakes = threading.Event()
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="blocks", daemon=True)
        self._thread.start()

    def settle_soon(self) -> None:
        """Have snapshots completed that were asked to be."""
        self._wakes.set()

    def close(self) -> None:
        """End the thread when it is done with what it does; nothing is put any more."""
        self._is_ending = True
        self._wakes.set()
        self._thread.join()
        self.access.close()

    def _run(self) -> None:
        while True:
            self._wakes.wait(_LOOK_SECONDS)
            self._wakes.clear()
            if self._is_ending:
                return
            try:
                self._look_around()
            except EbsimError as error:
                self._tell_bug(f"{self._region.name}: {error}")
            except Exception:  # noqa: BLE001 (a bug must not end what completes snapshots)
                self._tell_bug(f"{self._region.name}: {traceback.format_exc()}")

    def _look_around(self) -> None:
        for snapshot_id, error in settle_direct_snapshots(self._region).failures:
            self._tell_bug(f"{snapshot_id} is not completed yet: {error}")
        self.access.puts.end_idle_session()
