"""uvicorn's HTTP protocol, with bounds on connections and on the heads of their requests.

httptools gathers a header until it is complete, however long that is, and uvicorn waits for
it however long that takes.  Here a head that is too large or too slow ends its connection.

A connection costs a file descriptor, of which the store needs some as well, and heads that
are not complete cost memory: what comes beyond the limits of all together is told so and
closed.  A client that says nothing at all is closed when its time for a head is over.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SIZE_MAX = 64 << 10
HEAD_SECONDS_MAX = 60.0
HEADS_SIZE_MAX = 64 << 20
"""Of all heads that are not complete, however many clients send them."""

BAD_REQUEST = "400 Bad Request"
UNAVAILABLE = "503 Service Unavailable"


@dataclass(slots=True)
class Connections:
    """What all connections of a server share.

    Attributes:
        count_max: How many there may be.
        heads_size: Bytes of heads that are not complete.
    """

    count_max: int
    heads_size_max: int = HEADS_SIZE_MAX
    heads_size: int = 0


def bounded_protocol(connections: Connections) -> type["BoundedHead"]:
    """The protocol of the *connections* of one server."""
    return type("BoundedHead", (BoundedHead,), {"all": connections})


class BoundedHead(HttpToolsProtocol):
    """One connection."""

    all: Connections
    _head_size = 0
    _is_in_head = True
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._begin_head()
        if len(self.connections) > self.all.count_max:
            self._refuse(
                UNAVAILABLE,
                f"{self.all.count_max} connections are open, and no more can be. Close some, or "
                "start the server with a higher limit of open files (ulimit -n).",
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed *data*; what comes behind a head that is too large is not looked at."""
        if self.transport.is_closing():
            return
        if self._is_in_head:
            self._head_size += len(data)
            self.all.heads_size += len(data)
        super().data_received(data)
        if not self._is_in_head:
            return
        if self._head_size > HEAD_SIZE_MAX:
            self._refuse(BAD_REQUEST, f"The head of a request may have {HEAD_SIZE_MAX} bytes.")
        elif self.all.heads_size > self.all.heads_size_max:
            self._refuse(UNAVAILABLE, "Too many unfinished requests at once. Try again.")

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._begin_head()

    def _begin_head(self) -> None:
        self._end_head()
        self._is_in_head = True
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(HEAD_SECONDS_MAX, self._lose_patience)

    def _end_head(self) -> None:
        self._is_in_head = False
        self.all.heads_size -= self._head_size
        self._head_size = 0
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        # A request that is being answered holds its connection for as long as that takes.
        if self.cycle is None or self.cycle.response_complete:
            self._refuse(
                BAD_REQUEST,
                f"The head of a request took more than {HEAD_SECONDS_MAX:.0f} seconds.",
            )

    def _refuse(self, status: str, message: str) -> None:
        if self.transport.is_closing():
            return
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(message)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write((head + message).encode("ascii"))
        self.transport.close()
