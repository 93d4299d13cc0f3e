"""Where an analysis may run: whatever has the interface of ``concurrent.futures.Executor``.

The executor of a Dask cluster has it too.  Its workers read the images themselves, by the same
paths, and need ebsim with the extra ``analyze``; what they send back are parts, so nothing but
the images has to be shared.
"""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from importlib import import_module
from typing import NamedTuple

from ebsim.errors import InvalidRequest, MissingTool, StorageUnavailable

_DASK = "dask://"
_TASKS_PER_THREAD = 2
_CONNECT_SECONDS = 30


class Workers(NamedTuple):
    """What work is given to, and how many tasks at once."""

    executor: Executor
    in_flight_max: int


@contextmanager
def workers_at(address: str) -> Iterator[Workers]:
    """The workers at *address*, ``dask://HOST:PORT``, connected while the body runs.

    Raises:
        InvalidRequest: *address* is no such thing.
        MissingTool: the extra ``dask`` is not installed.
        StorageUnavailable: nobody answers there, or there is no worker.
    """
    host, colon, port = address.removeprefix(_DASK).rpartition(":")
    if not address.startswith(_DASK) or not host or not colon or not port.isdigit():
        raise InvalidRequest(
            f"'{address}' is no executor. Write dask://HOST:PORT, the address of a scheduler."
        )
    try:
        distributed = import_module("distributed")
    except ModuleNotFoundError as error:
        raise MissingTool(
            tool="distributed",
            package="'ebsim[dask]'",
            purpose="--executor dask://...",
            installer="pip install",
        ) from error
    try:
        client = distributed.Client(
            f"tcp://{host}:{port}", timeout=_CONNECT_SECONDS, set_as_default=False
        )
    except OSError as error:
        raise StorageUnavailable(
            f"no Dask scheduler answers at {host}:{port}: {error or type(error).__name__}. "
            "Nothing was analysed."
        ) from error
    with client:
        threads = sum(client.nthreads().values())
        if threads == 0:
            raise StorageUnavailable(
                f"the Dask cluster at {host}:{port} has no worker. Nothing was analysed. "
                f"Start one with 'dask worker {host}:{port}'."
            )
        with client.get_executor() as executor:
            yield Workers(executor, threads * _TASKS_PER_THREAD)
