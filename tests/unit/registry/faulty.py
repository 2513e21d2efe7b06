"""A registry on this computer that does as it is told: a small server for tests of what registries may do wrong."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import socket
import tarfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """``cut`` ends the connection after that many bytes of the body; ``raw`` is sent instead of all."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    raw: bytes | None = None
    hold: threading.Event | None = None
    """Waited for before anything is said."""


Rule = Callable[[Asked], Answer]


class Faulty:
    """``rules`` are looked up by method and path; what has none is 404, and GET /v2/ is fine."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.rules: dict[tuple[str, str], Rule | Answer] = {("GET", "/v2/"): Answer(200, b"{}")}
        self.asked: list[Asked] = []
        self._listener = socket.create_server((host, 0))
        self.host = f"{host}:{self._listener.getsockname()[1]}"
        self.url = f"http://{self.host}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def seen(self, method: str, path: str) -> list[Asked]:
        return [one for one in self.asked if (one.method, one.path.partition("?")[0]) == (method, path)]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError), client.makefile("rb") as stream:
            while line := stream.readline():
                method, path, _ = line.decode().split(" ", 2)
                headers: dict[str, str] = {}
                while (header := stream.readline().decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                body = stream.read(int(headers.get("content-length", "0")))
                asked = Asked(method, path, headers, body)
                self.asked.append(asked)
                rule = self.rules.get((method, path)) or self.rules.get((method, path.partition("?")[0]), Answer(404))
                answer = rule if isinstance(rule, Answer) else rule(asked)
                if answer.hold is not None:
                    answer.hold.wait(30)
                client.sendall(answer.raw if answer.raw is not None else _written(method, answer))
                if answer.cut is not None or answer.raw is not None:
                    return


def _written(method: str, answer: Answer) -> bytes:
    headers = {"Content-Length": str(len(answer.body)), **answer.headers}
    head = f"HTTP/1.1 {answer.status} Whatever\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    body = b"" if method == "HEAD" else answer.body[: answer.cut]
    return head.encode() + b"\r\n" + body


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(name: str, content: bytes) -> bytes:
    """An archive of one file."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size, member.uid, member.gid = len(content), os.getuid(), os.getgid()
        archive.addfile(member, io.BytesIO(content))
    return output.getvalue()


def json_answer(value: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


def errors(status: int, code: str, message: str, detail: object = None) -> Answer:
    return json_answer({"errors": [{"code": code, "message": message, "detail": detail}]}, status)


class Image:
    """An image as registries have it, and the rules of a server that has it."""

    def __init__(self, *layers: bytes, architecture: str = "amd64", compress: Callable[[bytes], bytes] = gzip.compress):
        self.blobs = [compress(one) for one in layers]
        diff_ids = [digest_of(one) for one in layers]
        self.config = json.dumps(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            }
        ).encode()
        self.type = "application/vnd.docker.distribution.manifest.v2+json"
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": self.type,
                "config": _pointer("application/vnd.docker.container.image.v1+json", self.config),
                "layers": [_pointer("application/vnd.docker.image.rootfs.diff.tar.gzip", one) for one in self.blobs],
            }
        ).encode()
        self.digest = digest_of(self.manifest)

    def serve(self, server: Faulty, path: str, tag: str = "latest") -> None:
        headers = {"Content-Type": self.type, "Docker-Content-Digest": self.digest}
        answer = Answer(200, self.manifest, headers)
        for name in (tag, self.digest):
            for method in ("GET", "HEAD"):
                server.rules[(method, f"/v2/{path}/manifests/{name}")] = answer
        for blob in (self.config, *self.blobs):
            server.rules[("GET", f"/v2/{path}/blobs/{digest_of(blob)}")] = Answer(200, blob)


def _pointer(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(data), "digest": digest_of(data)}
