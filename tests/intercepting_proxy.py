"""A proxy as companies have them: it wants to know who asks, and ends TLS with certificates of an authority of its own.

As a program, to run in an engine's network namespace: ``intercepting_proxy.py FOLDER PORT USER:PASSWORD ROUTES``. ROUTES are JSON:
where what is asked for a host and a port is taken to, over plain HTTP. Other hosts are answered 502. FOLDER has ca.key and ca.crt
(``authority``), and gets ``log``: a line for each connection and each request. Nothing finds the routes' hosts but this.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import json
import re
import socket
import ssl
import sys
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_CHUNK = 1 << 16
_HEAD_MAX = 1 << 16
_REQUEST = re.compile(rb"^(GET|HEAD|POST|PUT|PATCH|DELETE) (\S+) HTTP/1.1\r\n")


def authority(folder: Path) -> Path:
    """Makes one; its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example Corp inspection")])
    made = _certificate(name, name, key.public_key(), key, x509.BasicConstraints(ca=True, path_length=0))
    _write_key(folder / "ca.key", key)
    (folder / "ca.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder / "ca.crt"


def _certificate(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, signer: ec.EllipticCurvePrivateKey,
    *extensions: x509.ExtensionType,
) -> x509.Certificate:  # fmt: skip
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
    made = made.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=2))
    for extension in extensions:
        made = made.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return made.sign(signer, hashes.SHA256())


def _write_key(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(key.private_bytes(*form))


class Proxy:
    """Serves what connects to ``listener`` until that is closed."""

    def __init__(self, listener: socket.socket, folder: Path, login: str, routes: dict[str, str]) -> None:
        self._listener = listener
        self._folder = folder
        self._login = f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""
        self._routes = routes
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _log(self, line: str) -> None:
        with self._lock, (self._folder / "log").open("a") as file:
            file.write(line + "\n")

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ssl.SSLError, ValueError):
            head = _head(client)
            first, _, rest = head.partition(b"\r\n")
            method, target, _ = first.decode().split(" ")
            fields = dict(line.lower().split(": ", 1) for line in rest.decode().split("\r\n") if ": " in line)
            given = re.search(rb"(?im)^proxy-authorization: (.*)\r$", rest)
            if self._login and (given is None or given[1].decode() != self._login):
                self._log(f"407 {method} {target}")
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n")
                client.sendall(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
                return
            self._log(f"{method} {target}")
            if method == "CONNECT":
                self._tunnel(client, target)
            else:
                self._plain(client, method, target, rest, int(fields.get("content-length", "0")))

    def _tunnel(self, client: socket.socket, target: str) -> None:
        route = self._routes.get(target)
        if route is None:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        host = target.rpartition(":")[0]
        with self._context(host).wrap_socket(client, server_side=True) as inner, _connected(route) as server:
            back = threading.Thread(target=_copy, args=(server, inner), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while data := inner.recv(_CHUNK):
                    if request := _REQUEST.match(data):
                        self._log(f"{request[1].decode()} https://{host}{request[2].decode()}")
                    server.sendall(data)
                server.shutdown(socket.SHUT_WR)
            back.join()

    def _plain(self, client: socket.socket, method: str, target: str, fields: bytes, length: int) -> None:
        host, slash, path = target.removeprefix("http://").partition("/")
        route = self._routes.get(host if ":" in host else f"{host}:80")
        if route is None:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        kept = [line for line in fields.split(b"\r\n") if line and not re.match(rb"(?i)(proxy-|connection:)", line)]
        with _connected(route) as server:
            server.sendall(
                b"\r\n".join([f"{method} {slash}{path} HTTP/1.1".encode(), *kept, b"Connection: close", b"", b""])
            )
            while length > 0 and (data := client.recv(min(length, _CHUNK))):
                server.sendall(data)
                length -= len(data)
            _copy(server, client)

    def _context(self, host: str) -> ssl.SSLContext:
        with self._lock:
            if host not in self._contexts:
                self._contexts[host] = self._made(host)
            return self._contexts[host]

    def _made(self, host: str) -> ssl.SSLContext:
        signer = serialization.load_pem_private_key((self._folder / "ca.key").read_bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        issuer = x509.load_pem_x509_certificate((self._folder / "ca.crt").read_bytes()).subject
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
        leaf = _certificate(subject, issuer, key.public_key(), signer, x509.SubjectAlternativeName([name]))
        chain, private = self._folder / f"{host}.crt", self._folder / f"{host}.key"
        chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        _write_key(private, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, private)
        return context


def _head(client: socket.socket) -> bytes:
    """Through its empty line; byte by byte, for what follows is another's."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = client.recv(1)
        if not piece or len(data) > _HEAD_MAX:
            raise ValueError("no request")
        data += piece
    return data[:-2]


def _connected(route: str) -> socket.socket:
    host, _, port = route.rpartition(":")
    return socket.create_connection((host, int(port)), 10)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        source.settimeout(None)
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    made, port, login, told = sys.argv[1:]
    listening = socket.create_server(("0.0.0.0", int(port)), backlog=64)
    print("ready", flush=True)
    Proxy(listening, Path(made), login, json.loads(told)).run()
