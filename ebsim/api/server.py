"""The HTTP server: requests come in on the event loop and are answered in threads.

The loop only carries bytes.  A body is read up to a limit and within a time; whatever an
action does, it does in a thread, so that a slow one holds up no other.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ebsim.api.bounded_head import HEADS_SIZE_MAX, Connections, bounded_protocol
from ebsim.api.dispatch import Desk, answer
from ebsim.api.faults import Malformed
from ebsim.api.form_request import read_form
from ebsim.api.http_messages import Request
from ebsim.errors import InvalidRequest

BODY_SIZE_MAX = 2 << 20
BODY_SECONDS_MAX = 60.0
BUFFERED_SIZE_MAX = 512 << 20
"""Of all bodies that are in memory, however many clients send them."""

THREAD_COUNT = 64
DRAIN_SECONDS = 30
CONNECTIONS_MAX = 20_000
_BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class _Refused(Exception):
    """A body that is not read to its end."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class _Answering:
    """The application: every request that is not about the server's own health."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = HttpRequest(scope, receive)
        taken: list[int] = []
        try:
            await self._respond(request, send, taken)
        finally:
            self._buffered -= sum(taken)

    async def _respond(self, request: HttpRequest, send: Send, taken: list[int]) -> None:
        scope, receive = request.scope, request.receive
        try:
            body = await self._body(request, taken)
        except ClientDisconnect:
            return
        except _Refused as refused:
            # What comes after a body that was not read is no request.
            response = HttpResponse(
                str(refused), refused.status, {"connection": "close"}, "text/plain"
            )
            await response(scope, receive, send)
            return
        answered = await run_in_threadpool(self._answer, scope, body)
        await answered(scope, receive, send)

    async def _body(self, request: HttpRequest, taken: list[int]) -> bytes:
        """The whole body; limits in size and time bound what a client costs, and all of them.

        *taken* notes what it takes of the memory for all bodies.
        """
        said = request.headers.get("content-length", "0")
        if not said.isdecimal() or len(said) > 18:
            raise _Refused(400, "Content-Length is no number.")
        if int(said) > BODY_SIZE_MAX:
            raise _Refused(413, f"A body may have {BODY_SIZE_MAX} bytes.")
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                async for part in request.stream():
                    taken.append(len(part))
                    self._buffered += len(part)
                    if sum(taken) > BODY_SIZE_MAX:
                        raise _Refused(413, f"A body may have {BODY_SIZE_MAX} bytes.")
                    if self._buffered > BUFFERED_SIZE_MAX:
                        raise _Refused(503, "Too many large requests at once. Try again.")
                    parts.append(part)
        except TimeoutError as error:
            message = f"The body took more than {BODY_SECONDS_MAX:.0f} seconds."
            raise _Refused(408, message) from error
        return b"".join(parts)

    def _answer(self, scope: Scope, body: bytes) -> HttpResponse:
        try:
            request = _request(scope, body)
        except (Malformed, UnicodeDecodeError) as error:
            return HttpResponse(f"The request cannot be read: {error}.", 400)
        found = answer(self._desk, request)
        response = HttpResponse(found.body, found.status)
        for name, value in found.headers:
            response.headers[name] = value
        return response


def _request(scope: Scope, body: bytes) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return Request(
        method=scope["method"],
        raw_path=scope["raw_path"].decode("ascii"),
        query=tuple(read_form(scope["query_string"].decode("ascii"))),
        headers=headers,
        body=body,
    )


def application(desk: Desk) -> ASGIApp:
    """The application that answers with *desk*."""

    async def health(request: HttpRequest) -> HttpResponse:
        del request
        return HttpResponse("ok\n", media_type="text/plain")

    async def metrics(request: HttpRequest) -> HttpResponse:
        del request
        return HttpResponse(desk.metrics.text(), media_type="text/plain; version=0.0.4")

    routes = [Route("/healthz", health, methods=["GET"]), Route("/metrics", metrics)]
    app = Starlette(routes=routes)
    app.router.default = _Answering(desk)
    # A path with a slash too many is another path, not one to be sent somewhere else.
    app.router.redirect_slashes = False
    return app


class Server(uvicorn.Server):
    """A uvicorn server whose signals are somebody else's to handle."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone; ``should_exit`` is how it is asked to end."""
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until asked to end, then finish the requests that are being answered."""
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREAD_COUNT
        await super().serve(sockets)


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens at *host* and *port*.

    Raises:
        InvalidRequest: it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise InvalidRequest(
            f"cannot listen at {host}:{port}: {error.strerror or error}. Nothing is served. "
            "Give another --listen HOST:PORT."
        ) from error
    return made


def make_server(
    desk: Desk,
    tls: Tls | None,
    *,
    connections_max: int = CONNECTIONS_MAX,
    heads_size_max: int = HEADS_SIZE_MAX,
) -> Server:
    """A server to be run with ``run(sockets=[...])``.

    Connections beyond *connections_max* are told so and closed, and so are those whose
    unfinished heads take more than *heads_size_max* bytes together.

    Raises:
        InvalidRequest: the certificate or its key cannot be used.
    """
    config = uvicorn.Config(
        application(desk),
        http=bounded_protocol(Connections(connections_max, heads_size_max)),
        log_config=None,
        # What clients do wrong is told to them: nobody fills a log by it.
        log_level="error",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        backlog=_BACKLOG,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ssl_certfile=tls.certificate if tls is not None else None,
        ssl_keyfile=tls.key if tls is not None else None,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise InvalidRequest(
            f"the certificate or its key cannot be used: {error}. Nothing is served."
        ) from error
    return Server(config)
