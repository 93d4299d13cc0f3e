"""uvicorn's HTTP protocol, with a bound on a request's head: in size and in time.

httptools gathers a header until it is complete, however long that is, and uvicorn waits for
it however long that takes.  Here a head that is too large or too slow ends its connection.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SIZE_MAX = 64 << 10
HEAD_SECONDS_MAX = 60.0


class BoundedHead(HttpToolsProtocol):
    """One connection."""

    _head_size = 0
    _is_in_head = True
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed *data*; what comes behind a head that is too large is not looked at."""
        self._head_size += len(data)
        super().data_received(data)
        if self._is_in_head and self._head_size > HEAD_SIZE_MAX:
            self._refuse(f"The head of a request may have {HEAD_SIZE_MAX} bytes.")

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._begin_head()

    def _begin_head(self) -> None:
        self._end_head()
        self._is_in_head, self._head_size = True, 0
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(HEAD_SECONDS_MAX, self._lose_patience)

    def _end_head(self) -> None:
        self._is_in_head = False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        # A request that is being answered holds its connection for as long as that takes.
        if self.cycle is None or self.cycle.response_complete:
            self._refuse(f"The head of a request took more than {HEAD_SECONDS_MAX:.0f} seconds.")

    def _refuse(self, message: str) -> None:
        if not self.transport.is_closing():
            self.send_400_response(message)
