"""A disk image served by ``qemu-nbd``, our child, over connections that only we have.

The listening socket is made here, in a folder only we may enter.  All connections are
made to it, and its name is removed, before the child starts and takes it over (as from
systemd).  So nothing has to be waited or polled for: a child that serves answers the
negotiation, and one that fails closes the connections.  Nobody else can connect, and
nothing is left behind under any name.  The child ends by itself when its last connection
closes, so also when this process is killed.
"""

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from typing import IO

from ebsim.errors import EbsimError, MissingTool, SourceUnusable
from ebsim.sources.nbd_client import NbdClient
from ebsim.sources.nbd_protocol import NbdRefusal, NbdViolation

_PROGRAM = "qemu-nbd"
# systemd's protocol: the socket is descriptor 3, and LISTEN_PID names who may take it.
_TAKE_SOCKET = 'export LISTEN_PID=$$; exec "$@" 3<&0 </dev/null'
_SOCKET_FD = 3
_END_SECONDS = 10

# How qemu begins a message: with the options, which say nothing to the user.
_PREAMBLE = re.compile(r"^qemu-nbd: |Failed to blk_new_open '.*?[^,]': |Could not open '[^']*': ")


class NbdExport:
    """The disk in an image, read by any number of threads over a few connections.

    Args:
        options: qemu's ``--image-opts`` for the image.
        location: What messages call it.
        pass_fd: A descriptor that *options* name as ``/dev/fd/N``.
        connection_count: How many reads can be under way at once.
        timeout_seconds: How long the child may stay silent.

    Raises:
        MissingTool: there is no ``qemu-nbd``.
        SourceUnusable: it cannot open the image.
    """

    def __init__(
        self,
        options: bytes,
        *,
        location: str,
        pass_fd: int | None = None,
        connection_count: int = 4,
        timeout_seconds: float = 60,
    ) -> None:
        assert pass_fd is None or pass_fd > _SOCKET_FD, "the child's socket takes its place"
        program = shutil.which(_PROGRAM)
        if program is None:
            raise MissingTool(
                tool=_PROGRAM, package="qemu-utils", purpose=f"Reading the image {location}"
            )
        self._location = location
        self._clients: list[NbdClient] = []
        self._idle: SimpleQueue[NbdClient] = SimpleQueue()
        with ExitStack() as on_failure:
            self._messages = on_failure.enter_context(_new_file(location))
            listener, connections = _connect_all(connection_count, location)
            for connection in connections:
                on_failure.callback(connection.close)
            with listener:
                self._child = self._start(program, options, listener, pass_fd)
            on_failure.callback(self._end_at_once)
            for connection in connections:
                self._clients.append(self._negotiate(connection, timeout_seconds))
                self._idle.put(self._clients[-1])
            self._size_bytes = self._clients[0].size_bytes
            on_failure.pop_all()

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def child_pid(self) -> int:
        return self._child.pid

    @contextmanager
    def client(self, offset_bytes: int) -> Iterator[NbdClient]:
        """A connection that no other thread uses meanwhile, to work at *offset_bytes*.

        Raises:
            SourceUnusable: for what the server refuses or does wrong inside the context.
        """
        client = self._idle.get()
        is_in_step = False
        try:
            yield client
            is_in_step = True
        except NbdRefusal as error:
            is_in_step = True
            raise self._unreadable(offset_bytes, error) from error
        except NbdViolation as error:
            raise self._unreadable(offset_bytes, error) from error
        finally:
            if not is_in_step:
                # What is left of an answer that was broken off could pass for the next one:
                # the disk's own bytes may have been made for that.  Closed, it only fails.
                client.close()
            self._idle.put(client)

    def _unreadable(self, offset_bytes: int, error: EbsimError) -> SourceUnusable:
        return SourceUnusable(
            f"{self._location} cannot be read at byte {offset_bytes}: {_PROGRAM}: {error}. "
            "Nothing was made from it."
        )

    def close(self) -> None:
        """Close the connections and see the child end.  Harmless when called twice."""
        while self._clients:
            self._clients.pop().close()
        if self._child.poll() is None:
            try:
                self._child.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._messages.close()

    def _start(
        self, program: str, options: bytes, listener: socket.socket, pass_fd: int | None
    ) -> subprocess.Popen[bytes]:
        command: list[str | bytes] = ["/bin/sh", "-c", _TAKE_SOCKET, "sh", program]
        command += ["--read-only", "--shared=0", "--image-opts", options]
        try:
            return subprocess.Popen(
                command,
                stdin=listener.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._messages,
                pass_fds=() if pass_fd is None else (pass_fd,),
                env=os.environ | {"LISTEN_FDS": "1", "LC_ALL": "C"},
                # A Ctrl-C at the terminal is ours to handle: it must not cut reads short.
                start_new_session=True,
            )
        except OSError as error:
            raise _not_served(self._location, str(error.strerror)) from error

    def _negotiate(self, connection: socket.socket, timeout_seconds: float) -> NbdClient:
        try:
            return NbdClient(connection, timeout_seconds=timeout_seconds)
        except (NbdViolation, NbdRefusal) as error:
            self._end_at_once()  # so that it has said all that it will
            self._messages.seek(0)
            said = self._messages.read().decode(errors="replace").strip().splitlines()
            reason = "; ".join(_PREAMBLE.sub("", line) for line in said) or str(error)
            raise _not_served(self._location, reason) from error

    def _end_at_once(self) -> None:
        self._child.kill()
        self._child.wait()


def _connect_all(count: int, location: str) -> tuple[socket.socket, list[socket.socket]]:
    """A listening socket without a name, and *count* connections that wait in its queue."""
    with ExitStack() as on_failure:
        try:
            folder = tempfile.mkdtemp(prefix="ebsim-nbd-")
        except OSError as error:
            raise _not_served(location, str(error.strerror)) from error
        try:
            folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            on_failure.callback(os.close, folder_fd)
            # A socket's path has room for 107 bytes, which a long TMPDIR would exceed.
            address = f"/proc/self/fd/{folder_fd}/socket"
            sockets = [
                on_failure.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                for _ in range(1 + count)
            ]
            listener, *connections = sockets
            listener.bind(address)
            listener.listen(count)
            for connection in connections:
                connection.connect(address)
        except OSError as error:
            raise _not_served(location, str(error.strerror)) from error
        finally:
            shutil.rmtree(folder)
        on_failure.pop_all()
        os.close(folder_fd)
        return listener, connections


def _new_file(location: str) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise _not_served(location, str(error.strerror)) from error


def _not_served(location: str, reason: str) -> SourceUnusable:
    # qemu repeats what it finds in images, whose authors may wish for a terminal's ear.
    printable = "".join(letter if letter.isprintable() else "?" for letter in reason)
    return SourceUnusable(
        f"{location} cannot be opened by {_PROGRAM}: {printable}. Nothing was made from it."
    )
