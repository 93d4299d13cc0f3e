"""Work done in several threads, its results in order."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")


def in_threads(
    work: Callable[[S], T], items: Iterator[S], thread_count: int, waiting_max: int
) -> Iterator[T]:
    """Yield ``work(item)`` for each of *items*, in order, made by several threads.

    At most *waiting_max* results are made ahead.  Whoever stops early ends the work.
    """
    with ThreadPoolExecutor(thread_count, "read") as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for item in islice(items, waiting_max):
                waiting.append(pool.submit(work, item))
            while waiting:
                result = waiting.popleft().result()
                for item in islice(items, 1):
                    waiting.append(pool.submit(work, item))
                yield result
        finally:
            for future in waiting:
                future.cancel()
