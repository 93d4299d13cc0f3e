"""Where the server listens, what it calls that, and encryption."""

import os
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebsim.attach.certificates import server_context
from ebsim.attach.nbd_server import NbdServer
from ebsim.errors import Conflict, InvalidRequest
from tests.attach.nbd_client import SIZE, RawClient, serving
from tests.attach.nbd_devices import MemoryDevice, PromptMemoryDevice
from tests.nbd.clients import GO, LIST, READ, STARTTLS, flags, go, option, write
from tests.tools import require_tool, run


@pytest.fixture
def server() -> Iterator[NbdServer]:
    server = NbdServer(list)
    yield server
    server.stop()


def test_a_unix_socket_is_its_users_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(MemoryDevice(SIZE)) as served:
        served.server.listen_unix(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            client = RawClient(sock)
            client.enter()
            assert client.ask(READ, 0, 10).data == bytes(10)
    assert not path.exists()


def test_tcp_listens_on_loopback_at_any_free_port() -> None:
    with serving(MemoryDevice(SIZE)) as served:
        port = served.server.listen_tcp(port=0)
        assert served.server.uris("disk") == [f"nbd://127.0.0.1:{port}/disk"]
        with socket.create_connection(("127.0.0.1", port)) as sock:
            client = RawClient(sock)
            client.enter()
            assert client.ask(READ, 0, 10).data == bytes(10)


def test_uris_are_quoted(server: NbdServer, tmp_path: Path) -> None:
    path = tmp_path / "a b?c"
    server.listen_unix(path)
    quoted = str(tmp_path) + "/a%20b%3Fc"
    assert server.uris("x/y&z") == [f"nbd+unix:///x%2Fy%26z?socket={quoted}"]


def test_a_socket_that_a_dead_process_left_is_replaced(server: NbdServer, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server.listen_unix(path)
    assert path.is_socket()


def test_a_live_socket_is_left_alone(server: NbdServer, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(Conflict, match="somebody listens"):
            server.listen_unix(path)
    assert path.is_socket()


def test_a_file_is_never_replaced(server: NbdServer, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(Conflict, match="is no socket"):
        server.listen_unix(path)
    assert path.read_text() == "precious"


def test_another_servers_socket_at_the_same_path_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first, second = NbdServer(list), NbdServer(list)
    first.listen_unix(path)
    path.rename(tmp_path / "moved")
    second.listen_unix(path)
    first.stop()
    assert path.is_socket()
    second.stop()
    assert not path.exists()


@pytest.mark.parametrize("name", ["x" * 120, "no/such/folder"])
def test_a_path_that_cannot_be_is_refused(server: NbdServer, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="--socket"):
        server.listen_unix(tmp_path / name)


def test_a_port_that_is_taken_is_refused(server: NbdServer) -> None:
    port = server.listen_tcp(port=0)
    with pytest.raises(InvalidRequest, match=f"cannot listen on 127.0.0.1:{port}"):
        server.listen_tcp(port=port)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openssl = require_tool("openssl", package="openssl")
    folder = tmp_path_factory.mktemp("tls")
    run(
        openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "1", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost",
        "-keyout", folder / "server-key.pem", "-out", folder / "server-cert.pem",
    )  # fmt: skip
    return folder


def encrypted(client: RawClient, context: ssl.SSLContext) -> RawClient:
    """Start TLS on *client*'s connection, which is new."""
    client.sock.sendall(flags() + option(STARTTLS))
    client.receive(18 + 20)
    client.sock = context.wrap_socket(client.sock, server_hostname="localhost")
    return client


def trusting(certificates: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificates / "server-cert.pem")


@pytest.mark.parametrize("kind", [MemoryDevice, PromptMemoryDevice])
def test_everything_works_encrypted(certificates: Path, kind: type[MemoryDevice]) -> None:
    content = bytes(range(256)) * 8192
    with serving(kind(SIZE), tls=server_context(certificates), must_use_tls=True) as served:
        client = encrypted(served.connect(), trusting(certificates))
        client.sock.sendall(go(b"disk"))
        client.receive(20 + 12 + 20)
        client.sock.sendall(write(100, content))
        assert client.receive(16)[4:8] == bytes(4)
        for start in range(0, len(content), 1 << 20):
            client.sock.sendall(
                b"\x25\x60\x95\x13" + bytes(12) + (100 + start).to_bytes(8, "big") + b"\0\x10\0\0"
            )
            client.receive(16)
            assert client.receive(1 << 20) == content[start : start + (1 << 20)]


def test_without_tls_a_forcing_server_tells_nothing(certificates: Path) -> None:
    with serving(
        MemoryDevice(SIZE), tls=server_context(certificates), must_use_tls=True
    ) as served:
        client = served.connect()
        client.sock.sendall(flags() + option(LIST) + go())
        client.receive(18)
        for number in (LIST, GO):
            reply = client.receive(20)
            assert reply[8:16] == number.to_bytes(4, "big") + b"\x80\0\0\x05"
            client.receive(int.from_bytes(reply[16:], "big"))


def test_a_client_without_a_certificate_is_refused_where_one_is_asked_for(
    certificates: Path, tmp_path: Path
) -> None:
    for name in ("server-cert.pem", "server-key.pem"):
        os.link(certificates / name, tmp_path / name)
    os.link(certificates / "server-cert.pem", tmp_path / "ca-cert.pem")
    with serving(MemoryDevice(SIZE), tls=server_context(tmp_path)) as served:
        client = encrypted(served.connect(), trusting(certificates))
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
            client.sock.recv(1)


def test_garbage_for_tls_ends_its_own_connection(certificates: Path) -> None:
    with serving(MemoryDevice(SIZE), tls=server_context(certificates)) as served:
        client = served.connect()
        client.sock.sendall(flags() + option(STARTTLS))
        client.receive(18 + 20)
        client.sock.sendall(b"x" * 100)
        while client.sock.recv(100):
            pass
        served.enter()
        assert served.log == []


def test_missing_and_encrypted_keys_are_refused(certificates: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="--tls-dir"):
        server_context(tmp_path)
    os.link(certificates / "server-cert.pem", tmp_path / "server-cert.pem")
    run(
        "openssl", "ec", "-in", certificates / "server-key.pem", "-aes128",
        "-passout", "pass:secret", "-out", tmp_path / "server-key.pem",
    )  # fmt: skip
    with pytest.raises(InvalidRequest, match="encrypted"):
        server_context(tmp_path)


def test_tls_cannot_be_forced_without_certificates() -> None:
    with pytest.raises(InvalidRequest, match="--tls-dir"):
        NbdServer(list, must_use_tls=True)


def test_nbdinfo_speaks_tls(certificates: Path, tmp_path: Path) -> None:
    nbdinfo = require_tool("nbdinfo", package="libnbd-bin")
    os.link(certificates / "server-cert.pem", tmp_path / "ca-cert.pem")
    with serving(
        MemoryDevice(SIZE), tls=server_context(certificates), must_use_tls=True
    ) as served:
        port = served.server.listen_tcp("localhost", 0)
        uri = f"nbds://localhost:{port}/disk?tls-certificates={tmp_path}"
        assert run(nbdinfo, "--size", uri).strip() == str(SIZE)
        plain = subprocess.run([nbdinfo, uri.replace("nbds", "nbd")], capture_output=True)
        assert plain.returncode != 0
