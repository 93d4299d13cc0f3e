"""The volumes that ``ebsim serve`` has open.

    attached to an instance     served over NBD from AttachVolume, or the server's start, until
                                it is detached or the server ends; loaded meanwhile
    otherwise                   open only while it is loaded, and let go for whoever wants it

What another process has open is left to that one.  A volume that is attached has a thread of
its own, which waits; loading takes turns, so that a hundred volumes of one snapshot cost
what a few do.  Reads of what is not loaded yet wait for no turn.

Everything about a volume ends as it does in ``ebsim volume attach``: by what is asked on the
socket in its folder, by this process's own requests as well.
"""

import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from ebsim.api.regions import Regions
from ebsim.catalog.volume import Volume
from ebsim.cli.serving import Places, served_over_nbd
from ebsim.engine.list_volumes import every_volume, volume_of_anybody
from ebsim.engine.open_volume import (
    INITIALIZE,
    OpenedVolume,
    let_initializer_go,
    open_volume,
)
from ebsim.engine.region import Region
from ebsim.engine.volume_status import is_had_in_passing
from ebsim.errors import EbsimError, VolumeInUse, VolumeNotFound
from ebsim.ids import VolumeId

SERVE = "serve"
SERVED_MAX = 256
LOADING_MAX = 4  # of those that are attached at once; of the others one
_SERVED_WITHIN_SECONDS = 10.0
_LOOK_SECONDS = 0.2


class _Served:
    """An attached volume, from when it is looked after to when it is let go."""

    def __init__(self) -> None:
        self.settled = threading.Event()
        self.opened: OpenedVolume | None = None
        self.thread: threading.Thread | None = None

    @property
    def is_ending(self) -> bool:
        return self.opened is not None and self.opened.asked_to_stop.is_set()


class KeptVolumes:
    """Serves and loads the volumes of a home's regions.  Safe from many threads."""

    def __init__(
        self,
        regions: Regions,
        tell: Callable[[str], None],
        *,
        served_max: int = SERVED_MAX,
        loading_max: int = LOADING_MAX,
    ) -> None:
        """*tell* is told why an attached volume is not served, or one is not loaded."""
        self._regions = regions
        self._tell = tell
        self._served_max = served_max
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._served: dict[VolumeId, _Served] = {}
        self._loaded_here: set[VolumeId] = set()
        self._attached_turns = ThreadPoolExecutor(loading_max, "load-attached")
        self._other_turns = ThreadPoolExecutor(1, "load")

    def start(self) -> None:
        """Begin with what was attached, or not all here, when the last server ended."""
        for name in self._regions.made_names():
            # A region that cannot be opened was told of by whoever opened it first.
            with suppress(EbsimError):
                region = self._regions.region(name, create=False)
                for volume in every_volume(region):
                    self._begin(region, volume)

    def look_after(self, region_name: str, volume_ids: Sequence[VolumeId]) -> None:
        """Serve those that are attached, load the others; wait until the former are served."""
        region = self._regions.region(region_name, create=False)
        begun = []
        for volume_id in volume_ids:
            volume = volume_of_anybody(region, volume_id)
            if volume is not None:
                begun.append(self._begin(region, volume))
        for served in begun:
            if served is not None:
                served.settled.wait(_SERVED_WITHIN_SECONDS)

    def stop(self) -> None:
        """Let go of all: requests under way are finished, and everything is flushed."""
        with self._lock:
            self._ended.set()
            kept = list(self._served.values())
        for served in kept:
            if served.opened is not None:
                served.opened.asked_to_stop.set()
        for served in kept:
            if served.thread is not None:
                served.thread.join()
        for turns in (self._attached_turns, self._other_turns):
            turns.shutdown(wait=True, cancel_futures=True)

    def _begin(self, region: Region, volume: Volume) -> _Served | None:
        if not volume.is_local or volume.is_deleted or volume.bin_stay or volume.pooled_zone:
            return None
        if volume.attachment is not None:
            return self._begin_serving(region, volume.volume_id)
        with self._lock:
            if volume.origin is None or volume.volume_id in self._loaded_here:
                return None
            if not self._ended.is_set():
                self._loaded_here.add(volume.volume_id)
                self._other_turns.submit(self._load, region, volume.volume_id)
        return None

    # Those that are attached

    def _begin_serving(self, region: Region, volume_id: VolumeId) -> _Served | None:
        with self._lock:
            found = self._served.get(volume_id)
            if found is not None and not found.is_ending:
                return found
            if self._ended.is_set():
                return None
            if len(self._served) >= self._served_max:
                self._tell(
                    f"{volume_id} is attached and not served: {self._served_max} volumes are, "
                    "and no more at once. Detach others, then end and start the server."
                )
                return None
            served = _Served()
            self._served[volume_id] = served
            served.thread = threading.Thread(
                target=self._serve, args=(region, volume_id, served), name=volume_id
            )
            served.thread.start()
        return served

    def _serve(self, region: Region, volume_id: VolumeId, served: _Served) -> None:
        try:
            with (
                self._told(volume_id, "attached and not served"),
                self._opened(region, volume_id, served) as opened,
                served_over_nbd(opened, Places(None, None, None)),
            ):
                volume = volume_of_anybody(region, volume_id)
                if volume is None or volume.attachment is None:
                    # Detached while it was opened, by somebody who found nobody to ask.
                    return
                served.settled.set()
                if opened.hydrator is not None:
                    self._attached_turns.submit(self._load_attached, opened)
                opened.asked_to_stop.wait()
        finally:
            served.settled.set()
            with self._lock:
                if self._served.get(volume_id) is served:
                    del self._served[volume_id]

    @contextmanager
    def _opened(
        self, region: Region, volume_id: VolumeId, served: _Served
    ) -> Iterator[OpenedVolume]:
        with ExitStack() as stack:
            opening = partial(
                open_volume, region, volume_id, SERVE, hydrates=True, begins_paused=True
            )
            while True:
                let_initializer_go(region, volume_id)
                try:
                    opened = stack.enter_context(opening())
                    break
                except VolumeInUse:
                    if not is_had_in_passing(region, volume_id) or self._ended.is_set():
                        raise
                self._ended.wait(_LOOK_SECONDS)
            with self._lock:
                served.opened = opened
                if self._ended.is_set():
                    opened.asked_to_stop.set()
            yield opened

    def _load_attached(self, opened: OpenedVolume) -> None:
        """Load an attached volume; one that waits for the store has had its turn."""
        opened.let_load()
        while not opened.has_done_loading(_LOOK_SECONDS):
            pass

    # The others

    def _load(self, region: Region, volume_id: VolumeId) -> None:
        with self._lock:
            # Whoever asks from here on is answered by another turn.
            self._loaded_here.discard(volume_id)
        with (
            self._told(volume_id, "not loaded"),
            open_volume(region, volume_id, INITIALIZE, hydrates=True) as opened,
        ):
            volume = volume_of_anybody(region, volume_id)
            if volume is None or volume.attachment or volume.bin_stay:
                return
            while not opened.has_done_loading(_LOOK_SECONDS):
                if opened.asked_to_stop.is_set() or self._ended.is_set():
                    return
            failure = opened.status()["failure"]
            if failure:
                self._tell(f"{volume_id} is not loaded: {failure}")

    @contextmanager
    def _told(self, volume_id: VolumeId, what: str) -> Iterator[None]:
        try:
            yield
        except (VolumeInUse, VolumeNotFound):
            pass  # another process has it, or it is gone
        except EbsimError as error:
            self._tell(f"{volume_id} is {what}: {error}")
        except Exception:  # noqa: BLE001 (one volume's bug must not end the others)
            self._tell(f"{volume_id} is {what}: {traceback.format_exc()}")
