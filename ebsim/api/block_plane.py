"""What a server keeps of a region for the EBS direct APIs, and does behind their answers."""

import threading
import traceback
from collections.abc import Callable

from ebsim.engine.direct.block_access import BlockAccess
from ebsim.engine.direct.finish_direct_snapshot import settle_direct_snapshots
from ebsim.engine.region import Region, metadata_identity
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
        self._told = ""
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
            if self._is_ending or self._is_put_aside():
                return
            try:
                self._tell(self._look_around())
            except EbsimError as error:
                self._tell(f"{self._region.name}: {error}")
            except Exception:  # noqa: BLE001 (a bug must not end what completes snapshots)
                self._tell(f"{self._region.name}: {traceback.format_exc()}")

    def _is_put_aside(self) -> bool:
        """Whether a rebuild has made the region's metadata anew; then another plane has it."""
        region = self._region
        return metadata_identity(region.files, region.path) != region.metadata_identity

    def _tell(self, text: str) -> None:
        """Tell *text*, once for as long as it is the same."""
        if text and text != self._told:
            self._tell_bug(text)
        self._told = text

    def _look_around(self) -> str:
        """Do what there is to do; return what went wrong."""
        failures = settle_direct_snapshots(self._region).failures
        self.access.puts.end_idle_session()
        return " ".join(f"{one} is not completed yet: {error}" for one, error in failures)
