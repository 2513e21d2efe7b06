"""What the tests of containers' lives share: events as they come, requests without a client's own ideas."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import docker

PATIENCE_S = 60.0


class Events:
    """The events of one container from now on, in order; the stream is there before anything happens."""

    def __init__(self, url: str, container_id: str) -> None:
        self._client = docker.DockerClient(url, timeout=60)
        self._stream = self._client.events(decode=True, filters={"container": container_id})
        self._seen: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for event in self._stream:
            with self._news:
                self._seen.append(event)
                self._news.notify_all()

    @property
    def seen(self) -> list[dict[str, Any]]:
        with self._news:
            return [*self._seen]

    @property
    def actions(self) -> list[str]:
        return [event["Action"] for event in self.seen]

    def until(self, action: str, count: int = 1, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """The `count`th event `action`."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                found = [event for event in self._seen if event["Action"] == action]
                if len(found) >= count:
                    return found[count - 1]
                if not self._news.wait(deadline - time.monotonic()):
                    seen = [event["Action"] for event in self._seen]
                    raise AssertionError(f"no {action!r} (number {count}) within {timeout_s} s, but {seen}")

    def close(self) -> None:
        self._stream.close()
        self._client.close()


@contextmanager
def events_of(engine: Any, container: Any) -> Iterator[Events]:
    made = Events(engine.url, container.id)
    try:
        yield made
    finally:
        made.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


def ask(engine: Any, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """The status and the JSON, or the text, of one request."""
    connection = _Connection(str(engine.socket))
    data = None if body is None else json.dumps(body)
    connection.request(method, f"/v1.51{path}", data, {"Content-Type": "application/json"} if data else {})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    try:
        return answer.status, json.loads(text) if text else None
    except ValueError:
        return answer.status, text


class Waiting:
    """`POST /containers/{id}/wait` whose head has come; `result` gives the body."""

    def __init__(self, engine: Any, container_id: str, condition: str) -> None:
        self._connection = _Connection(str(engine.socket))
        self._connection.request("POST", f"/v1.51/containers/{container_id}/wait?condition={condition}")
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200

    def result(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self._answer.read())
        self._connection.close()
        return body


def restart(engine: Any) -> None:
    """kill -9 the engine, and start it again."""
    engine.kill()
    engine.start()


def eventually(holds: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """For what no event tells: look until it holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
