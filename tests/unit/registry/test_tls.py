"""Certificates, as dockerd's ``certs.d`` has them."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from coved.errors import InvalidParameter
from coved.registry import calls, tls
from coved.registry.errors import RegistryError
from coved.registry.settings import Endpoint
from coved.registry.wire import Wire


def make(folder: Path, name: str, *options: str) -> None:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3"]
    words = [
        "openssl",
        "req",
        "-x509",
        *key,
        "-keyout",
        f"{name}.key",
        "-out",
        f"{name}.crt",
        "-subj",
        f"/CN={name}",
        *options,
    ]
    subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=60)


class Server:
    """Answers every request over TLS with 200, and wants a client's certificate when ``clients`` names their CA."""

    def __init__(self, certificate: Path, key: Path, clients: Path | None = None) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        if clients is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(clients)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                try:
                    with self._context.wrap_socket(client, server_side=True) as spoken:
                        spoken.recv(65536)
                        spoken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                except OSError:
                    client.close()
        except OSError:
            return

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path, "server", "-addext", "subjectAltName=IP:127.0.0.1")
    make(tmp_path, "client")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    made = Server(folder / "server.crt", folder / "server.key", folder / "client.crt")
    yield made
    made.close()


def ask(server: Server, certificates: Path, *, insecure: bool = False) -> int:
    endpoint = Endpoint("https", server.host, insecure=insecure)
    with calls.Call():
        wire = Wire(tls.context(endpoint, [certificates / "none", certificates]))
        with wire.send("GET", f"{endpoint.url}/v2/") as response:
            response.done()
            return response.status


def test_a_registry_and_its_client_know_each_other(folder: Path, server: Server) -> None:
    own = folder / "certs.d" / server.host
    own.mkdir(parents=True)
    with pytest.raises(RegistryError, match="x509: certificate signed by unknown authority"):
        ask(server, folder / "certs.d")
    (own / "ca.crt").write_bytes((folder / "server.crt").read_bytes())
    with pytest.raises(RegistryError, match=r"tls: .*certificate required|EOF|reset"):
        ask(server, folder / "certs.d")
    (own / "client.cert").write_bytes((folder / "client.crt").read_bytes())
    (own / "client.key").write_bytes((folder / "client.key").read_bytes())
    assert ask(server, folder / "certs.d") == 200


def test_another_name_is_refused(folder: Path) -> None:
    make(folder, "other", "-addext", "subjectAltName=IP:127.0.0.2")
    server = Server(folder / "other.crt", folder / "other.key")
    own = folder / "certs.d" / server.host
    own.mkdir(parents=True)
    (own / "ca.crt").write_bytes((folder / "other.crt").read_bytes())
    with pytest.raises(RegistryError, match=r"tls: failed to verify certificate: x509: IP address mismatch"):
        ask(server, folder / "certs.d")
    assert ask(server, folder / "certs.d", insecure=True) == 200
    server.close()


def test_folders_that_are_not_in_order(tmp_path: Path) -> None:
    own = tmp_path / "reg:1"
    own.mkdir()
    endpoint = Endpoint("https", "reg:1")
    (own / "a.cert").write_text("x")
    with pytest.raises(
        InvalidParameter, match=r"missing key a.key for client certificate a.cert. CA certificates must use"
    ):
        tls.context(endpoint, [tmp_path])
    (own / "a.cert").rename(own / "b.key")
    with pytest.raises(InvalidParameter, match=r"missing client certificate b.cert for key b.key"):
        tls.context(endpoint, [tmp_path])
    (own / "b.key").rename(own / "c.crt")
    with pytest.raises(InvalidParameter, match=r"cannot read .*c.crt"):
        tls.context(endpoint, [tmp_path])
