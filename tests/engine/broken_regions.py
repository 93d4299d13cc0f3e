"""A region on which a transaction or a file call fails, beside the same one that is whole."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from ebsim.backends.local_directory import LocalDirectory
from ebsim.chunkstore.chunk_reader import ChunkReader
from ebsim.chunkstore.sessions import Sessions
from ebsim.durable_files import Files
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.reserve import Reserve
from ebsim.errors import StorageUnavailable
from ebsim.metadata.transactions import Metadata, Reader, Transaction
from ebsim.system_calls import SystemCalls
from tests.crash import faulty_calls

T = TypeVar("T")


class _FailingMetadata:
    """Metadata whose transaction *number* fails; with *took_effect* it is committed before."""

    def __init__(self, inner: Metadata, number: int, *, took_effect: bool) -> None:
        self._inner = inner
        self._left = number
        self._took_effect = took_effect

    def read(self, fn: Callable[[Reader], T]) -> T:
        return self._inner.read(fn)

    def run(self, fn: Callable[[Transaction], T]) -> T:
        self._left -= 1
        if self._left != -1:
            return self._inner.run(fn)
        if self._took_effect:
            self._inner.run(fn)
        raise StorageUnavailable("the disk broke")

    def close(self) -> None:
        self._inner.close()


@dataclass(frozen=True, slots=True)
class TransactionFails:
    """The transaction of that *number* fails, with or without having taken effect."""

    number: int
    took_effect: bool

    def on(self, region: Region) -> Region:
        metadata = _FailingMetadata(region.metadata, self.number, took_effect=self.took_effect)
        return replace(region, metadata=metadata)


@dataclass(frozen=True, slots=True)
class CallFails:
    """The file call of that *number* fails with *error*, once or from there on; or is short."""

    number: int
    error: str
    is_persistent: bool

    def on(self, region: Region) -> Region:
        is_short = self.error == "short"
        calls = faulty_calls.FaultyCalls(
            SystemCalls(),
            self.number,
            0 if is_short else getattr(errno, self.error),
            fault=faulty_calls.Fault.SHORT if is_short else faulty_calls.Fault.ERROR,
            persistent=self.is_persistent and not is_short,
        )
        files = Files(calls)
        backend = LocalDirectory(region.path, files)
        return replace(
            region,
            files=files,
            backend=backend,
            sessions=Sessions(region.path / "sessions", region.random, files),
            reserve=Reserve(region.path / "reserve", files),
            chunks=ChunkReader(backend, region.metadata),
        )


Fault = TransactionFails | CallFails


@contextmanager
def failing(region: Region, fault: Fault | None) -> Iterator[Region]:
    """*region* with *fault*, whose failure ends the body; cleared up behind it."""
    if fault is None:
        yield region
        return
    with suppress(StorageUnavailable):
        yield fault.on(region)
    recover(region)
