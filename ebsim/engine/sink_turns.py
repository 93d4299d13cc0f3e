"""Delivering to many sinks at once, so that a slow one holds up no other.

Each sink of each region has a turn of its own, in a thread: it is given what waits for it,
in order, and leaves the thread to others when its time is over.  A sink never has two turns
at once.  One that hangs keeps its thread until that delivery has failed, and then has to
wait longer each time before it is tried again, as ``deliver_events.py`` says.
"""

import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

from ebsim.engine.deliver_events import deliver_to_sink, sinks_to_serve
from ebsim.engine.event_sinks import Sink
from ebsim.engine.region import Region
from ebsim.errors import EbsimError

THREAD_COUNT = 32
TURN_SECONDS = 5.0


class SinkTurns:
    """Turns of sinks that go on, or wait for a thread.  Safe from many threads."""

    def __init__(self, tell: Callable[[str], None], *, thread_count: int = THREAD_COUNT) -> None:
        """*tell* is told of what goes wrong in ebsim; what a sink does wrong is in its cursor."""
        self._tell = tell
        self._pool = ThreadPoolExecutor(thread_count, "events")
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._going_on: set[tuple[str, str]] = set()

    def begin(self, region: Region) -> None:
        """Begin a turn for each sink of the region that has none."""
        for sink in sinks_to_serve(region):
            turn = region.name, sink.key
            with self._lock:
                if turn in self._going_on or self._ended.is_set():
                    continue
                self._going_on.add(turn)
                self._pool.submit(self._deliver, region, sink)

    def close(self) -> None:
        """End after the deliveries that go on; what waits is delivered by who comes next."""
        with self._lock:
            self._ended.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _deliver(self, region: Region, sink: Sink) -> None:
        ends_at = monotonic() + TURN_SECONDS

        def is_over() -> bool:
            return self._ended.is_set() or monotonic() >= ends_at

        try:
            deliver_to_sink(region, sink, should_stop=is_over)
        except EbsimError as error:
            self._tell(f"{sink.name} in {region.name}: {error}")
        except Exception:  # noqa: BLE001 (one sink's bug must not end the others)
            self._tell(f"{sink.name} in {region.name}: {traceback.format_exc()}")
        finally:
            with self._lock:
                self._going_on.discard((region.name, sink.key))
