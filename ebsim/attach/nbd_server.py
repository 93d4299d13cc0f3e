"""The NBD server: listens, and gives every client a thread of its own.

    server = NbdServer(lambda: list(exports.values()))
    server.listen_unix(Path("/run/user/1000/ebsim.sock"))
    server.start()
    ...
    server.stop()

Exports may appear, change and vanish meanwhile: they are asked for whenever a client asks.
A client that stalls, errs or vanishes affects its own connection alone.  All connections
to a device use the device itself and no cache before it, so a flush on one covers what was
acknowledged on any (section "Transmission flags" of the protocol, CAN_MULTI_CONN).
"""

import errno
import os
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from ebsim.attach.nbd_connection import HANDSHAKE_SECONDS, Connection
from ebsim.attach.nbd_export import Export, Log, log_to_stderr
from ebsim.attach.nbd_stream import PlainStream
from ebsim.attach.nbd_workers import Workers
from ebsim.errors import Conflict, InvalidRequest

__all__ = ["Export", "NbdServer"]

CONNECTIONS_MAX = 128
STOP_SECONDS = 10.0

_WORKER_COUNT = 16
_BACKLOG = 128
_PATH_BYTES_MAX = 107
_TOO_MANY = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE_SECONDS = 0.1


class NbdServer:
    """Shows block devices to NBD clients.  Safe to use from many threads.

    Args:
        exports: Returns what there is to be had now.  Called whenever a client asks.
        tls: The server's certificates (``certificates.server_context``), if it has any.
        must_use_tls: Whether clients that do not encrypt are refused.
        connections_max: Further clients are closed at once.
        handshake_seconds: How long a client may take before its first request.
        log: Takes lines about what an operator should see.

    The listening methods may be called before and after :meth:`start`.
    """

    def __init__(
        self,
        exports: Callable[[], Iterable[Export]],
        *,
        tls: ssl.SSLContext | None = None,
        must_use_tls: bool = False,
        connections_max: int = CONNECTIONS_MAX,
        handshake_seconds: float = HANDSHAKE_SECONDS,
        log: Log = log_to_stderr,
    ) -> None:
        if must_use_tls and tls is None:
            raise InvalidRequest("TLS cannot be insisted on without certificates: give --tls-dir.")
        self._exports = exports
        self._tls = tls
        self._must_use_tls = must_use_tls
        self._connections_max = connections_max
        self._handshake_seconds = handshake_seconds
        self._log = log
        self._workers = Workers(_WORKER_COUNT)
        self._lock = threading.Lock()
        self._connections: dict[Connection, threading.Thread] = {}
        self._listeners: list[_Listener] = []
        self._is_started = False
        self._is_stopping = threading.Event()

    def listen_unix(self, path: Path) -> None:
        """Listen on a Unix socket that only this user may connect to.

        A socket that a dead process left at *path* is replaced.

        Raises:
            Conflict: somebody listens there, or it is no socket.
            InvalidRequest: the path is too long for a socket, or cannot be made.
        """
        self._add(_listen_unix(path))

    def listen_tcp(self, host: str = "127.0.0.1", port: int = 10809) -> int:
        """Listen on *port* of *host*, or on any free one for 0; return which it is.

        Raises:
            InvalidRequest: the address is not to be had.
        """
        listener = _listen_tcp(host, port)
        self._add(listener)
        return listener.port

    def uris(self, export_name: str) -> list[str]:
        """Where clients find the export: one NBD URI for each place listened on.

        Source:
            https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md
        """
        scheme = "nbds" if self._must_use_tls else "nbd"
        return [listener.uri(scheme, export_name) for listener in self._listeners]

    def start(self) -> None:
        """Accept clients, in threads of the server's own."""
        with self._lock:
            self._is_started = True
            for listener in self._listeners:
                self._start_accepting(listener)

    def serve_connection(self, sock: socket.socket) -> bool:
        """Serve a connected client in a thread of its own; *sock* is the server's from now on.

        Returns:
            ``False`` if there are too many, or the server stops: *sock* is closed then.
        """
        with self._lock:
            is_welcome = (
                not self._is_stopping.is_set() and len(self._connections) < self._connections_max
            )
            if is_welcome:
                try:
                    self._start_serving(sock)
                except (OSError, RuntimeError) as error:  # the client is gone; no more threads
                    self._log(f"nbd: a client was turned away: {error}. Others are served.")
                    is_welcome = False
        if not is_welcome:
            sock.close()
        return is_welcome

    def connection_count(self, export_name: str | None = None) -> int:
        """How many clients there are, or how many use one export."""
        with self._lock:
            return sum(
                export_name is None or connection.export_name == export_name
                for connection in self._connections
            )

    def hang_up(self, export_name: str, *, timeout_seconds: float = STOP_SECONDS) -> None:
        """End the connections that use an export, as ``stop`` does for all."""
        with self._lock:
            chosen = {
                connection: thread
                for connection, thread in self._connections.items()
                if connection.export_name == export_name
            }
        _end(chosen, timeout_seconds)

    def stop(self, *, timeout_seconds: float = STOP_SECONDS) -> None:
        """Accept nobody, finish the requests under way, and close.  Harmless when repeated.

        A client that does not take its replies for *timeout_seconds* is cut off.
        """
        with self._lock:
            self._is_stopping.set()
            listeners, self._listeners = self._listeners, []
            connections = dict(self._connections)
        for listener in listeners:
            listener.close()
        _end(connections, timeout_seconds)
        self._workers.join()

    def _add(self, listener: "_Listener") -> None:
        with self._lock:
            self._listeners.append(listener)
            if self._is_started:
                self._start_accepting(listener)

    def _start_accepting(self, listener: "_Listener") -> None:
        listener.thread = threading.Thread(
            target=self._accept, args=(listener.sock,), name="nbd-accept", daemon=True
        )
        listener.thread.start()

    def _accept(self, sock: socket.socket) -> None:
        while not self._is_stopping.is_set():
            try:
                client, _ = sock.accept()
            except OSError as error:
                if error.errno in _TOO_MANY:
                    # Trying again at once would take a core until somebody leaves.
                    self._is_stopping.wait(_PAUSE_SECONDS)
                elif self._is_stopping.is_set() or error.errno != errno.ECONNABORTED:
                    return
                continue
            self.serve_connection(client)

    def _new_connection(self, sock: socket.socket) -> Connection:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Connection(
            PlainStream(sock),
            lambda: list(self._exports()),
            self._workers,
            tls_context=self._tls,
            must_use_tls=self._must_use_tls,
            handshake_seconds=self._handshake_seconds,
            log=self._log,
        )

    def _start_serving(self, sock: socket.socket) -> None:
        connection = self._new_connection(sock)
        thread = threading.Thread(
            target=self._serve, args=(connection,), name="nbd-client", daemon=True
        )
        thread.start()  # its end waits for the lock that is held here
        self._connections[connection] = thread

    def _serve(self, connection: Connection) -> None:
        try:
            connection.serve()
        except Exception as error:  # noqa: BLE001 - one client's end must not be another's
            self._log(
                f"nbd: a connection ended by a bug: {type(error).__name__}: {error}. "
                "Other connections go on."
            )
        finally:
            with self._lock:
                del self._connections[connection]


class _Listener:
    """A listening socket, where it is, and the thread that accepts from it."""

    def __init__(self, sock: socket.socket, *, host: str = "", path: Path | None = None) -> None:
        self.sock = sock
        self.thread: threading.Thread | None = None
        self._host = host
        self._path = path
        self._identity = _identity(path) if path is not None else None

    @property
    def port(self) -> int:
        return int(self.sock.getsockname()[1])

    def uri(self, scheme: str, export_name: str) -> str:
        name = quote(export_name, safe="")
        if self._path is not None:
            return f"{scheme}+unix:///{name}?socket={quote(str(self._path), safe='/')}"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self.port}/{name}"

    def close(self) -> None:
        """Stop listening, see the thread end, and remove the socket if it is still ours."""
        with suppress(OSError):  # it may say that nothing is connected
            self.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread, which closing does not
        if self.thread is not None:
            self.thread.join()
        self.sock.close()
        if self._path is not None and _identity(self._path) == self._identity:
            self._path.unlink()


def _end(connections: dict[Connection, threading.Thread], timeout_seconds: float) -> None:
    for connection in connections:
        connection.stop()
    # One that is cut off ends at once, and so does its thread.
    timer = threading.Timer(timeout_seconds, _break_off, [connections])
    timer.start()
    try:
        for thread in connections.values():
            thread.join()
    finally:
        timer.cancel()
        timer.join()


def _break_off(connections: Iterable[Connection]) -> None:
    for connection in connections:
        connection.break_off()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _listen_unix(path: Path) -> _Listener:
    if len(os.fsencode(path)) > _PATH_BYTES_MAX:
        raise InvalidRequest(
            f"{path} is longer than the {_PATH_BYTES_MAX} bytes that a socket's path may have. "
            "Nothing was changed. Give a shorter --socket."
        )
    _remove_dead_socket(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(sock.fileno(), stat.S_IRUSR | stat.S_IWUSR)  # bind makes the file like this
        sock.bind(str(path))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise InvalidRequest(
            f"cannot listen on {path}: {error.strerror}. Give another --socket."
        ) from error
    return _Listener(sock, path=path)


def _remove_dead_socket(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_socket():
        raise Conflict(f"{path} exists and is no socket. Nothing was changed. Give another path.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full queue is a live server too
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError:
            pass  # somebody is there, whatever it says
    raise Conflict(f"somebody listens on {path}. Nothing was changed. Give another path.")


def _listen_tcp(host: str, port: int) -> _Listener:
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, number)
    except OSError as error:
        raise _no_address(host, port, error) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _no_address(host, port, error) from error
    return _Listener(sock, host=host)


def _no_address(host: str, port: int, error: OSError) -> InvalidRequest:
    return InvalidRequest(
        f"cannot listen on {host}:{port}: {error.strerror}. Give another --listen HOST:PORT."
    )
