"""An engine in memory, as `cove.kube.play` asks for one."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from cove.kube.play.engine import Engine, Refused


class MemoryEngine:
    """`ends` has the exit statuses of containers' runs, in their order; what is not there goes on until it is removed."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.images: dict[str, dict[str, Any]] = {
            name: {"Config": {"User": ""}} for name in ("cove/starter", "busybox")
        }
        self.to_pull: set[str] = set()
        self.containers: dict[str, dict[str, Any]] = {}
        self.volumes: dict[str, dict[str, Any]] = {}
        self.networks: dict[str, dict[str, Any]] = {}
        self.ends: dict[str, list[int]] = {}
        self.started: list[str] = []
        self.executed: list[tuple[str, list[str], float]] = []
        self.pulled: list[str] = []
        self._ids = itertools.count()
        self.refused: dict[str, Refused] = {}
        """By "METHOD path"."""
        self.running = 0
        self.most_running = 0

    def another(self) -> Engine:
        return self

    def pull(self, image: str) -> None:
        self.pulled.append(image)
        if image not in self.to_pull:
            raise Refused(404, f"pull access denied for {image}")
        self.images[image] = {"Config": {"User": ""}}

    def kind(self, container: str, path: str) -> str:
        return ""

    def execute(self, container: str, command: list[str], timeout_s: float) -> int:
        self.executed.append((container, command, timeout_s))
        return 0

    def log(self, container: str, lines: int) -> str:
        return f"words of {container}"

    def call(
        self, method: str, path: str, query: dict[str, Any] | None = None, body: Any = None, *, archive: bytes | None = None
    ) -> Any:  # fmt: skip
        with self.lock:
            if error := self.refused.get(f"{method} {path}"):
                raise error
            kind, _, rest = unquote(path).strip("/").partition("/")
            handler: Callable[..., Any] = getattr(self, f"_{kind}")
            return handler(method, rest, query or {}, body)

    def _info(self, method: str, rest: str, query: dict[str, Any], body: Any) -> Any:
        return {"NCPU": 2}

    def _images(self, method: str, rest: str, query: dict[str, Any], body: Any) -> Any:
        return self._there(self.images, rest.removesuffix("/json"))

    def _volumes(self, method: str, rest: str, query: dict[str, Any], body: Any) -> Any:
        if not rest:
            return {"Volumes": self._labelled(self.volumes, query)}
        return self._thing(self.volumes, method, rest, body)

    def _networks(self, method: str, rest: str, query: dict[str, Any], body: Any) -> Any:
        return self._thing(self.networks, method, rest, body) if rest else self._labelled(self.networks, query)

    def _thing(self, known: dict[str, dict[str, Any]], method: str, rest: str, body: Any) -> Any:
        if rest == "create":
            if known is self.networks and body["Name"] in known:
                raise Refused(409, f"network with name {body['Name']} already exists")
            known[body["Name"]] = {"Labels": {}, "Id": body["Name"], **body}
            return None
        found = self._there(known, rest)
        if method == "DELETE":
            del known[rest]
        return found

    def _containers(self, method: str, rest: str, query: dict[str, Any], body: Any) -> Any:
        if rest == "json":
            return self._labelled(self.containers, query)
        if rest == "create":
            name = query["name"]
            if name in self.containers:
                raise Refused(409, f"{name} is in use")
            self.containers[name] = {
                "Id": f"{next(self._ids):064x}",
                "Name": f"/{name}",
                "Names": [f"/{name}"],
                "Labels": body["Labels"],
                "Body": body,
                "Status": None,
            }
            return {"Id": self.containers[name]["Id"]}
        asked, _, verb = rest.partition("/")
        found = self._container(asked)
        name = found["Name"][1:]
        if method == "DELETE":
            del self.containers[name]
            self.lock.notify_all()
        elif verb == "json":
            networks = {"kube-app": {"IPAddress": "10.1.1.1"}}
            return {"NetworkSettings": {"Networks": networks, "Ports": {}}, **found}
        elif verb == "start":
            self.started.append(name)
            ends = self.ends.get(name)
            found["Status"] = ends.pop(0) if ends else None
        elif verb == "wait":
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            self.lock.wait_for(lambda: found["Status"] is not None or name not in self.containers, 20)
            self.running -= 1
            return {"StatusCode": found["Status"] or 0}
        return None

    def _container(self, asked: str) -> dict[str, Any]:
        """By its name or the beginning of its id, as engines do."""
        by_id = (each for each in self.containers.values() if each["Id"].startswith(asked))
        return self.containers.get(asked) or next(by_id, None) or self._there(self.containers, asked)

    def _there(self, known: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
        if name not in known:
            raise Refused(404, f"no such thing: {name}")
        return known[name]

    def _labelled(self, known: dict[str, dict[str, Any]], query: dict[str, Any]) -> list[dict[str, Any]]:
        (label,) = json.loads(query["filters"])["label"]
        key, _, value = label.partition("=")
        return [each for each in known.values() if (each["Labels"] or {}).get(key) == value]

    @property
    def empty(self) -> bool:
        return not (self.containers or self.volumes or self.networks)
