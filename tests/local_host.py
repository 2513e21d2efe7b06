"""The far host of `remote_host` without SSH: commands and streams go there by its namespaces, as whoever it is."""

from __future__ import annotations

import http.client
import io
import json
import socket
import subprocess
import threading
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

from cove.errors import RemoteError
from cove.remote.host import Host, Ran
from cove.transport.base import Stream
from cove.transport.serial import SerialTransport
from coved.link.protocol import FrameDecoder, encode
from remote_host import RemoteHost

ANSWER_S = 60.0


class LocalHost(Host):
    """``before``: words before every command, ``env PATH=...`` for one."""

    def __init__(self, far: RemoteHost, *before: str) -> None:
        self.far = far
        self._before = before

    def run(self, command: Sequence[str], *, stdin: BinaryIO | bytes = b"", timeout_s: float) -> Ran:
        given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
        words = self.far.inside(*self._before, *command)
        try:
            done = subprocess.run(words, capture_output=True, timeout=timeout_s, **given)
        except subprocess.TimeoutExpired as error:
            raise RemoteError(str(error)) from error
        return Ran(done.returncode, done.stdout, done.stderr)

    def open_stream(self, target: str) -> Stream:
        raise NotImplementedError  # the tests come to the streams' socket itself

    def dial(self, streams: str, timeout_s: float = ANSWER_S) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(timeout_s)
        made.connect(f"/proc/{self.far.pid}/root{streams}")
        return made


class Laptop:
    """The laptop's end of one engine's streams: asks the API, and says on the link that every port is bound and no folder shared."""

    def __init__(self, host: LocalHost, streams: str) -> None:
        self.transport = SerialTransport(lambda timeout_s: host.dial(streams, timeout_s), ANSWER_S)
        self.ready = threading.Event()
        self.ports: dict[int, int] = {}
        """Guest ports by those of the laptop."""
        self._link: Stream | None = None

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status, and the answer: JSON where it is that, text where it is not."""
        stream = self.transport.open_stream("/run/docker.sock")
        try:
            data = b"" if body is None else json.dumps(body).encode()
            head = (
                f"{method} {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\nContent-Type: application/json\r\n"
            )
            stream.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            said = heard(stream)
        finally:
            stream.close()
        answer = http.client.HTTPResponse(cast(socket.socket, _Said(said)), method=method)
        answer.begin()
        content = answer.read()
        try:
            return answer.status, json.loads(content)
        except ValueError:
            return answer.status, content.decode("utf-8", "replace")

    def run(self, image: str, *command: str, name: str = "", start: bool = True, **more: Any) -> str:
        """A container's id."""
        created = f"/containers/create{f'?name={name}' if name else ''}"
        status, answer = self.ask("POST", created, {"Image": image, "Cmd": [*command], "StopSignal": "SIGKILL", **more})
        assert status == 201, answer
        if start:
            status, said = self.ask("POST", f"/containers/{answer['Id']}/start")
            assert status == 204, said
        return str(answer["Id"])

    def link(self) -> None:
        """Comes to the engine's link, and stays."""
        self._link = self.transport.open_stream("/run/cove/link.sock")
        self._link.sendall(encode({"type": "hello", "version": 1, "unix_ns": 0}))
        threading.Thread(target=self._answer, args=(self._link,), daemon=True).start()
        assert self.ready.wait(ANSWER_S), "the engine does not say that it is ready"

    def _answer(self, link: Stream) -> None:
        frames = FrameDecoder()
        try:
            while data := link.recv(1 << 16):
                for message in frames.feed(data):
                    self._hear(link, message)
        except OSError:
            return

    def _hear(self, link: Stream, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "ready":
            self.ready.set()
        if kind == "want_shares":
            link.sendall(encode({"type": "shares", "id": 1, "shares": []}))
        if kind in ("publish", "unpublish", "sync"):
            ports = message.get("ports", [message])
            bound = [{key: one[key] for key in ("proto", "host_ip", "host_port", "guest_port")} for one in ports]
            self.ports |= {one["host_port"]: one["guest_port"] for one in bound}
            link.sendall(encode({"type": "reply", "id": message["id"], "ok": True, "ports": bound}))

    def close(self) -> None:
        self.transport.close()


class _Said:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def heard(stream: Stream) -> bytes:
    """All to the end."""
    data = b""
    while piece := stream.recv(1 << 16):
        data += piece
    return data
