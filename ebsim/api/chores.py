"""What the server does by itself, now and then, in each region that has a store.

A chore is a plain function of a region; name it in :data:`CHORES` (what may take long has a
thread of its own, as ``upkeep.py``).  It runs in one thread,
one chore after the other, as nobody in particular: what it does for an account it does
through ``dataclasses.replace(region, account_id=...)``.  One that fails is told and runs
again when its time comes.
"""

import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from ebsim.api.regions import Regions
from ebsim.engine.fast_restore import advance_fast_restores
from ebsim.engine.recovery import recover
from ebsim.engine.recycle_bin import sweep_recycle_bin
from ebsim.engine.region import Region
from ebsim.engine.report_lock_moments import report_lock_moments
from ebsim.errors import EbsimError

_LONGEST_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to do every *period_seconds*, the first time when the server starts."""

    name: str
    period_seconds: float
    run: Callable[[Region], object]


_LOADING_SECONDS = 5.0  # for each fast restore, so that other chores have their turn

CHORES = (
    Chore("recover", 60.0, recover),
    Chore("recycle bin", 1.0, sweep_recycle_bin),
    Chore("locks", 1.0, report_lock_moments),
    Chore("fast restore", 1.0, partial(advance_fast_restores, seconds_max=_LOADING_SECONDS)),
)
"""Everything that is done; first comes what clears up after a server that was killed."""


class Chores:
    """The thread that does them."""

    def __init__(
        self,
        regions: Regions,
        tell: Callable[[str], None],
        chores: Sequence[Chore] = CHORES,
        *,
        ended: threading.Event | None = None,
    ) -> None:
        """*ended* is set when it ends; a chore that takes long may look at it."""
        self._regions = regions
        self._tell = tell
        self._ended = ended or threading.Event()
        self._due = dict.fromkeys(chores, monotonic())
        self._thread = threading.Thread(target=self._run, name=chores[0].name)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the chore that is being done."""
        self._ended.set()
        self._thread.join()

    def run_due(self) -> None:
        """Do what is due now."""
        for chore in self._due:
            if self._due[chore] <= monotonic():
                self._due[chore] = monotonic() + chore.period_seconds
                for name in self._regions.made_names():
                    self._do(chore, name)

    def _run(self) -> None:
        while not self._ended.is_set():
            self.run_due()
            self._ended.wait(_LONGEST_PAUSE_SECONDS)

    def _do(self, chore: Chore, region_name: str) -> None:
        if self._ended.is_set():
            return
        try:
            chore.run(self._regions.region(region_name, create=False))
        except EbsimError as error:
            self._tell(f"{chore.name} in {region_name}: {error}")
        except Exception:  # noqa: BLE001 (one chore's bug must not end the others)
            self._tell(f"{chore.name} in {region_name}: {traceback.format_exc()}")
