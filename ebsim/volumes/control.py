"""How the process that has a volume open is spoken to by others.

It listens on a unix socket in the volume's folder.  A message is a line of JSON, its
answer another: ``{"op": "freeze", ...}`` and ``{"ok": {...}}`` or ``{"error": KIND, "text":
...}``.  A connection is one conversation: what it froze is thawed when it ends, however
it ends, and after the time that it named at the latest.

The socket's directory is named through ``/proc/self/fd``: a path to a socket has 107 bytes
at the most, whatever the home's.
"""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ebsim import errors
from ebsim.disk_errors import Attempt
from ebsim.volumes.live_volume import LiveVolume
from ebsim.volumes.volume_folder import VolumeFolder

_LINE_MAX = 1 << 16
_CONVERSATIONS_MAX = 64
_ANSWER_SECONDS = 60.0

Answer = dict[str, Any]
Handler = Callable[[Answer], Answer]


class NotServed(errors.Conflict):
    """No process answers for the volume."""


class _Thawed(errors.Conflict):
    """The freeze was held for too long and has ended."""


class _Conversation:
    """What one connection may ask of a volume."""

    def __init__(self, volume: LiveVolume, others: "dict[str, Handler]") -> None:
        self._volume = volume
        self._lock = threading.Lock()
        self._holds_freeze = False
        self._watchdog: threading.Timer | None = None
        self._operations: dict[str, Handler] = {
            "prepare_cut": self._prepare_cut,
            "freeze": self._freeze,
            "make_cut": self._make_cut,
            "thaw": self._thaw,
            "settle_cut": self._settle_cut,
            **others,
        }
        self._cut: str | None = None

    def answer(self, message: Answer) -> Answer:
        """What *message* gets."""
        operation = self._operations.get(str(message.get("op")))
        if operation is None:
            raise errors.InvalidRequest(f"{message.get('op')!r} is nothing that can be asked.")
        return operation(message)

    def end(self) -> None:
        """The connection is gone: thaw, and leave what it cut to who reads it."""
        self._thaw({})
        if self._cut is not None:
            self._volume.leave_cut(self._cut)

    def _prepare_cut(self, message: Answer) -> Answer:
        dirty_only = self._volume.prepare_cut(message["snapshot_id"], message["dirty_since"])
        return {"dirty_only": dirty_only}

    def _freeze(self, message: Answer) -> Answer:
        self._volume.freeze(float(message["timeout_seconds"]))
        with self._lock:
            self._holds_freeze = True
            self._watchdog = threading.Timer(float(message["held_seconds_max"]), self._release)
            self._watchdog.daemon = True
            self._watchdog.start()
        return {}

    def _make_cut(self, message: Answer) -> Answer:
        with self._lock:
            if not self._holds_freeze:
                raise _Thawed(
                    "writes were frozen for too long and go on. No snapshot was cut. Try again."
                )
            self._volume.make_cut(message["snapshot_id"], dirty_only=message["dirty_only"])
            self._cut = str(message["snapshot_id"])
            # In one message: under load each costs more than all that is done for it.
            self._let_go_on()
        return {}

    def _thaw(self, message: Answer) -> Answer:
        del message
        with self._lock:
            return {"was_frozen": self._let_go_on()}

    def _settle_cut(self, message: Answer) -> Answer:
        self._volume.settle_cut(message["snapshot_id"])
        self._cut = None
        return {}

    def _let_go_on(self) -> bool:
        held, self._holds_freeze = self._holds_freeze, False
        if held:
            assert self._watchdog is not None, "one watches over what is frozen"
            self._watchdog.cancel()
        return held and self._volume.thaw()

    def _release(self) -> None:
        with self._lock:
            self._let_go_on()


class ControlServer:
    """Answers for *volume*, which this process has open, from ``start`` to ``stop``.

    Args:
        others: What else can be asked, by its name: ``status``, ``detach`` and so on.
    """

    def __init__(
        self, folder: VolumeFolder, volume: LiveVolume, others: "dict[str, Handler]"
    ) -> None:
        self._folder = folder
        self._volume = volume
        self._others = others
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._conversations: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._accept, name="control", daemon=True)

    def start(self) -> None:
        """Listen.  The folder's lock is held, so a socket that is there is a dead one's.

        Raises:
            StorageUnavailable: the socket cannot be made; nothing listens then.
        """
        with Attempt("listen on", self._folder.control_socket, "The volume is not opened."):
            try:
                self._listen()
            except (OSError, errors.EbsimError):
                self._socket.close()
                raise
        self._thread.start()

    def _listen(self) -> None:
        self._folder.discard(self._folder.control_socket)
        with _short_path(self._folder) as path:
            self._socket.bind(path)
        self._folder.control_socket.chmod(0o600)
        self._socket.listen(_CONVERSATIONS_MAX)

    def stop(self) -> None:
        """Answer nobody any more.

        Raises:
            StorageUnavailable: the socket's name is left; nobody answers there.
        """
        self._is_stopping = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        with self._lock:
            conversations = dict(self._conversations)
        for connection, thread in conversations.items():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            if thread is not threading.current_thread():
                thread.join()
        # Last: whatever becomes of it, a volume that is closed is not spoken for.
        self._folder.discard(self._folder.control_socket)

    def _accept(self) -> None:
        while not self._is_stopping:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with self._lock:
                if len(self._conversations) >= _CONVERSATIONS_MAX:
                    connection.close()
                    continue
                thread = threading.Thread(
                    target=self._converse, args=(connection,), name="control", daemon=True
                )
                self._conversations[connection] = thread
            thread.start()

    def _converse(self, connection: socket.socket) -> None:
        conversation = _Conversation(self._volume, self._others)
        try:
            with connection, connection.makefile("rwb") as stream:
                while line := stream.readline(_LINE_MAX):
                    stream.write(json.dumps(_answer(conversation, line)).encode() + b"\n")
                    stream.flush()
        except OSError:
            pass  # whoever asked is gone
        finally:
            with suppress(errors.EbsimError):
                conversation.end()
            with self._lock:
                self._conversations.pop(connection, None)


def _answer(conversation: _Conversation, line: bytes) -> Answer:
    try:
        message = json.loads(line)
        if not isinstance(message, dict):
            raise errors.InvalidRequest("a message is a JSON object.")
        return {"ok": conversation.answer(message)}
    except errors.EbsimError as error:
        return {"error": type(error).__name__, "text": str(error)}
    except (ValueError, KeyError, TypeError) as error:
        return {"error": "InvalidRequest", "text": f"the message makes no sense: {error!r}."}


class ControlClient:
    """A conversation with the process that has the volume in *folder* open.

    Has the methods of :class:`LiveVolume` that snapshots need, and those of the process.

    Raises:
        NotServed: nobody answers.
        EbsimError: of every method, what the other process raised, or that it is gone.
    """

    def __init__(self, folder: VolumeFolder) -> None:
        self._folder = folder
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_ANSWER_SECONDS)
        try:
            with _short_path(folder) as path:
                self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise NotServed(
                f"{folder.path.name} is not served by any process. Nothing was changed."
            ) from error
        self._stream = self._socket.makefile("rwb")

    def __enter__(self) -> "ControlClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, op: str, **values: object) -> Answer:
        """Send one message; return what it got."""
        try:
            self._stream.write(json.dumps({"op": op, **values}).encode() + b"\n")
            self._stream.flush()
            line = self._stream.readline(_LINE_MAX)
        except OSError as error:
            raise self._gone() from error
        if not line:
            raise self._gone()
        answer: Answer = json.loads(line)
        if "ok" in answer:
            return dict(answer["ok"])
        raise _error(answer)

    def prepare_cut(self, snapshot_id: str, dirty_since: str | None) -> bool:
        answer = self.ask("prepare_cut", snapshot_id=snapshot_id, dirty_since=dirty_since)
        return bool(answer["dirty_only"])

    def freeze(self, timeout_seconds: float, held_seconds_max: float = 10.0) -> None:
        self.ask("freeze", timeout_seconds=timeout_seconds, held_seconds_max=held_seconds_max)

    def make_cut(self, snapshot_id: str, *, dirty_only: bool) -> None:
        """Cut the frozen volume, and let its writes go on."""
        self.ask("make_cut", snapshot_id=snapshot_id, dirty_only=dirty_only)

    def thaw(self) -> bool:
        """Let writes go on; whether they were frozen still."""
        return bool(self.ask("thaw")["was_frozen"])

    def settle_cut(self, snapshot_id: str) -> None:
        self.ask("settle_cut", snapshot_id=snapshot_id)

    def status(self) -> Answer:
        """What the process says of itself and of the volume."""
        return self.ask("status")

    def grow(self, size_bytes: int) -> None:
        """Make the volume larger while it is in use."""
        self.ask("grow", size_bytes=size_bytes)

    def close(self) -> None:
        """End the conversation."""
        with suppress(OSError):
            self._stream.close()
        self._socket.close()

    def _gone(self) -> errors.EbsimError:
        return errors.StorageUnavailable(
            f"the process that serves {self._folder.path.name} has ended or does not answer. "
            "See 'ebsim volume status'.",
            operation="ask",
            path=str(self._folder.control_socket),
        )


def _error(answer: Answer) -> errors.EbsimError:
    """The error that the other process met, of the same class where it is one of ours."""
    kind = getattr(errors, str(answer.get("error")), None)
    text = str(answer.get("text"))
    if isinstance(kind, type) and issubclass(kind, errors.Conflict):
        return kind(text)
    if kind in (errors.StorageFull, errors.StorageUnavailable):
        return kind(text, operation="ask", path="")
    if kind in (errors.InvalidRequest, errors.UnsupportedParameter):
        return kind(text)
    return errors.Conflict(text)


@contextmanager
def _short_path(folder: VolumeFolder) -> Iterator[str]:
    """A path to the folder's socket that is short enough, while the body runs."""
    descriptor = os.open(folder.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{folder.control_socket.name}"
    finally:
        os.close(descriptor)
