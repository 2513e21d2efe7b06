"""The kill test's load: threads that ask the engine for everything there is, by a seeded schedule, and keep a journal of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from kill_journal import Journal, Line

PATIENCE_S = 60.0
PORTS = 300
"""That a worker publishes, one after another."""
_SCRIPTS = {
    "short": "sleep {pause}; echo said-{name}; exit {code}",
    "long": "echo said-{name}; exec sleep 7200",
    "flapper": "sleep {pause}; exit {code}",
    "lasting": "mkdir -p /www; echo {name} > /www/index.html; exec httpd -f -p 80 -h /www",
    # A number is printed only when its record is on the disk.
    "writer": "n=$(wc -l < /v/data || echo 0); while :; do n=$((n+1)); echo $n > /r;"
    " dd if=/r of=/v/data oflag=append conv=notrunc,fsync 2> /dev/null && echo $n; sleep 0.05; done",
}


class Broken(Exception):
    """The connection ended before the answer."""


class Client:
    """One request a connection. ``sent`` is told of each request when it has been sent and before anything is read."""

    def __init__(
        self, path: str, sent: Callable[[str], None] = lambda operation: None, patience_s: float = PATIENCE_S
    ) -> None:
        self._path = path
        self._patience_s = patience_s
        self._sent = sent

    def ask(self, method: str, target: str, body: Any = None, *, operation: str = "") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("docker", timeout=self._patience_s)
        try:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(self._patience_s)
            connection.sock.connect(self._path)
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, f"/v1.51{target}", data, {"Content-Type": "application/json"} if data else {})
            self._sent(operation)
            answer = connection.getresponse()
            data = answer.read()
            if answer.status in (502, 503):  # in the engine's place: it ended before it answered, or is going or coming
                raise Broken
            return answer.status, data
        except TimeoutError:
            raise AssertionError(f"{method} {target} has no answer after {self._patience_s} s") from None
        except (OSError, http.client.HTTPException):
            raise Broken from None
        finally:
            connection.close()

    def json(self, method: str, target: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        status, data = self.ask(method, target, body, **more)
        try:
            return status, json.loads(data) if data else None
        except ValueError:
            if status >= 400:
                raise
            return status, data.decode(errors="replace")


def output(data: bytes) -> str:
    """What a multiplexed stream says (Engine API, "Stream format")."""
    text = b""
    while len(data) >= 8:
        length = int.from_bytes(data[4:8], "big")
        text, data = text + data[8 : 8 + length], data[8 + length :]
    return text.decode()


class Gate:
    """Workers pass it before each thing that they do; the killer closes it to look at an engine that nobody works on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = True
        self._within = 0
        self.ended = False

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._open or self.ended)
            self._within += 1

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._within -= 1
            self._changed.notify_all()

    @property
    def is_open(self) -> bool:
        return self._open

    def close(self) -> None:
        with self._changed:
            self._open = False

    def empty(self, timeout_s: float) -> bool:
        """Whether everyone who was within has left in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._within, timeout_s)

    def open(self, *, ended: bool = False) -> None:
        with self._changed:
            self._open, self.ended = True, ended
            self._changed.notify_all()


class Worker(threading.Thread):
    """Owns what it makes: nobody else touches it, so that its journal alone says what must be true."""

    def __init__(self, number: int, seed: int, client: Client, journal: Journal, gate: Gate, first_port: int) -> None:
        super().__init__(daemon=True)
        self._number = number
        self._first_port = first_port
        self._random = random.Random(f"{seed}/{number}")
        self._client = client
        self._journal = journal
        self._gate = gate
        self._made = 0
        self.failure: BaseException | None = None
        self._boxes: dict[str, dict[str, Any]] = {}  # by the name in the journal
        self._networks: list[str] = []
        self._volumes: list[str] = []
        self._images: dict[str, str] = {}  # to the mark that is in it

    def run(self) -> None:
        actions = {
            self._run_short: 5, self._make_long: 3, self._make_special: 2, self._start: 5, self._end: 5, self._exec: 6,
            self._remove: 5, self._rename: 2, self._pause: 2, self._commit: 3, self._run_image: 2,
            self._remove_image: 1, self._network: 3, self._volume: 2,
        }  # fmt: skip
        try:
            while not self._gate.ended:
                with self._gate:
                    if not self._gate.ended:
                        (action,) = self._random.choices([*actions], [*actions.values()])
                        with contextlib.suppress(Broken):
                            action()
                time.sleep(self._random.uniform(0, 0.02))
        except BaseException as error:
            self.failure = error

    # -- requests

    def _ask(
        self, operation: str, subject: str, method: str, target: str, body: Any = None, *,
        pick: Callable[[Any], Any] = lambda value: (value or {}).get("message"), **arguments: Any,
    ) -> Line:  # fmt: skip
        asked = self._journal.asked(operation, subject, **arguments)
        try:
            status, value = self._client.json(method, target, body, operation=operation)
        except Broken:
            self._journal.broken(asked)
            raise
        return self._journal.answered(asked, status, pick(value) if status < 400 else (value or {}).get("message"))

    def _fresh(self) -> str:
        self._made += 1
        return f"w{self._number}-{self._made}"

    def _about(self, box: str, operation: str, query: str = "", method: str = "POST", **more: Any) -> Line:
        line = self._ask(operation, box, method, f"/containers/{self._present(box)}{query}", **more)
        if line.status == 404:
            self._boxes.pop(box, None)
        return line

    def _present(self, box: str) -> str:
        """The name that it has as far as is known; after a rename without an answer, whichever is there."""
        known = self._boxes.get(box, {"name": box})
        if other := known.pop("perhaps", None):
            status, _ = self._client.ask("GET", f"/containers/{other}/json")
            if status == 200:
                known["name"] = other
        return str(known["name"])

    def _create(self, kind: str, *, auto_remove: bool = False, image: str = "busybox", command: Any = None) -> str:
        name, code = self._fresh(), self._random.randrange(2, 100)
        script = _SCRIPTS[kind].format(name=name, code=code, pause=round(self._random.uniform(0, 0.2), 2))
        host: dict[str, Any] = {"AutoRemove": auto_remove}
        port = 0
        if kind == "flapper":
            host["RestartPolicy"] = {"Name": "on-failure", "MaximumRetryCount": 3}
        elif kind == "lasting":
            port = self._first_port + self._made % PORTS
            host["RestartPolicy"] = {"Name": "unless-stopped"}
            host["PortBindings"] = {"80/tcp": [{"HostPort": str(port)}]}
        elif kind == "writer":
            host["RestartPolicy"] = {"Name": "unless-stopped"}
            host["Binds"] = [f"v-{name}:/v"]
        if kind not in ("lasting", "writer") and self._random.random() < 0.4:
            host["NetworkMode"] = "none"
        body = {
            "Image": image, "Cmd": command or ["sh", "-c", script], "ExposedPorts": {"80/tcp": {}}, "HostConfig": host,
        }  # fmt: skip
        self._boxes[name] = {"name": name, "kind": kind, "marks": [], "net": host.get("NetworkMode", "")}
        self._ask(
            "create", name, "POST", f"/containers/create?name={name}", body, pick=lambda value: value["Id"], kind=kind,
            code=0 if command else code, port=port, auto_remove=auto_remove,
        )  # fmt: skip
        return name

    def _some(self, *kinds: str, at_least: int = 1) -> str | None:
        found = [name for name, known in self._boxes.items() if not kinds or known["kind"] in kinds]
        return self._random.choice(found) if len(found) >= at_least else None

    # -- what it does

    def _run_short(self) -> None:
        auto_remove = self._random.random() < 0.3
        box = self._create("short", auto_remove=auto_remove)
        if self._random.random() < 0.1:
            return
        condition = "removed" if auto_remove else "not-running"
        if self._about(box, "start", "/start").status == 204:
            self._wait(box, condition)
        if not auto_remove and self._random.random() < 0.6:
            self._about(box, "remove", "?v=1", "DELETE")

    def _wait(self, box: str, condition: str) -> None:
        line = self._about(
            box, "wait", f"/wait?condition={condition}", pick=lambda value: value["StatusCode"], condition=condition
        )
        if line.status == 200 and condition == "removed":
            self._boxes.pop(box, None)

    def _make_long(self) -> None:
        if len(self._boxes) < 6:
            self._about(self._create("long"), "start", "/start")

    def _make_special(self) -> None:
        kind = self._random.choice(("flapper", "lasting", "writer"))
        if not any(known["kind"] == kind for known in self._boxes.values()):
            self._about(self._create(kind), "start", "/start")

    def _start(self) -> None:
        if box := self._some("long", "short", "lasting", "writer"):
            self._about(box, "start", "/start")

    def _end(self) -> None:
        if box := self._some("long", "lasting") or self._some():
            operation, query = self._random.choice((("stop", "/stop?t=0"), ("kill", "/kill")))
            self._about(box, operation, query)

    def _exec(self) -> None:
        box = self._some("long", "lasting", "writer")
        if box is None:
            return
        mark = f"mark-{self._fresh()}"
        asked = self._journal.asked("exec", box, mark=mark)
        try:
            command = {"Cmd": ["sh", "-c", f"echo {mark} | dd of=/{mark} conv=fsync 2>/dev/null"], "AttachStdout": True}
            status, value = self._client.json("POST", f"/containers/{self._present(box)}/exec", command)
            code = None
            if status == 201:
                id = value["Id"]
                status, data = self._client.ask("POST", f"/exec/{id}/start", {"Detach": False}, operation="exec")
                value = None if status == 200 else json.loads(data)
            if status == 200:
                status, value = self._client.json("GET", f"/exec/{id}/json")
                while status == 200 and value["Running"]:  # its output ends before it does
                    status, value = self._client.json("GET", f"/exec/{id}/json")
                code = value["ExitCode"] if status == 200 else None
        except Broken:
            self._journal.broken(asked)
            raise
        self._journal.answered(asked, status, code if status == 200 else value["message"])
        if status == 200 and code == 0 and box in self._boxes:
            self._boxes[box]["marks"].append(mark)
        elif status == 404 and "exec" not in value["message"]:
            self._boxes.pop(box, None)

    def _remove(self) -> None:
        if (box := self._some(at_least=4)) is not None:
            line = self._about(box, "remove", "?force=1&v=1", "DELETE")
            if line.status == 204:
                self._boxes.pop(box, None)

    def _rename(self) -> None:
        if (box := self._some("long")) is not None:
            to = f"renamed-{self._fresh()}"
            present = self._present(box)
            self._boxes[box]["perhaps"] = to
            line = self._ask("rename", box, "POST", f"/containers/{present}/rename?name={to}", to=to)
            del self._boxes[box]["perhaps"]
            if line.status == 204:
                self._boxes[box]["name"] = to
            if line.status == 404:
                self._boxes.pop(box)

    def _pause(self) -> None:
        box = self._some("long")
        if box is not None and self._about(box, "pause", "/pause").status == 204 and self._random.random() < 0.8:
            self._about(box, "unpause", "/unpause")

    def _commit(self) -> None:
        marked = [name for name, known in self._boxes.items() if known["marks"]]
        if not marked or len(self._images) > 4:
            return
        box = self._random.choice(marked)
        mark, image = self._boxes[box]["marks"][-1], f"kill/{self._fresh()}"
        target = f"/commit?container={quote(self._present(box))}&repo={image}"
        self._images[image] = mark
        line = self._ask("image.create", image, "POST", target, pick=lambda value: value["Id"], content=mark)
        if line.status == 404:
            self._boxes.pop(box)
        if line.status != 201:
            self._images.pop(image)

    def _run_image(self) -> None:
        if self._images:
            image, mark = self._random.choice([*self._images.items()])
            status, _ = self._client.ask("GET", f"/images/{image}/json")
            if status != 200:
                self._images.pop(image)  # its commit had no answer, and was not made
                return
            box = self._create("short", image=image, command=["grep", "-qx", mark, f"/{mark}"])
            self._about(box, "start", "/start")
            self._wait(box, "not-running")
            if self._about(box, "remove", "?v=1", "DELETE").status == 204:
                self._boxes.pop(box, None)

    def _remove_image(self) -> None:
        if self._images:
            image = self._random.choice([*self._images])
            line = self._ask("image.remove", image, "DELETE", f"/images/{image}", pick=lambda value: None)
            if line.status in (200, 404):
                self._images.pop(image)

    def _network(self) -> None:
        what = self._random.choice(("create", "connect", "connect", "disconnect", "remove"))
        if what == "create" and len(self._networks) < 3:
            name = f"n-{self._fresh()}"
            self._networks.append(name)
            self._ask(
                "network.create", name, "POST", "/networks/create", {"Name": name}, pick=lambda value: value["Id"]
            )
        elif what == "remove" and self._networks:
            name = self._random.choice(self._networks)
            if self._ask("network.remove", name, "DELETE", f"/networks/{name}").status in (204, 404):
                self._networks.remove(name)
        elif what in ("connect", "disconnect") and self._networks:
            box, name = self._some("long"), self._random.choice(self._networks)
            if box is not None and self._boxes[box]["net"] != "none":
                target = f"/networks/{name}/{what}"
                line = self._ask(what, box, "POST", target, {"Container": self._present(box)}, network=name)
                if line.status == 404 and line.value.startswith("network"):
                    self._networks.remove(name)
                elif line.status == 404:
                    self._boxes.pop(box)

    def _volume(self) -> None:
        if len(self._volumes) < 2:
            name = f"v-{self._fresh()}"
            self._volumes.append(name)
            self._ask(
                "volume.create", name, "POST", "/volumes/create", {"Name": name}, pick=lambda value: value["Name"]
            )
        else:
            name = self._random.choice(self._volumes)
            if self._ask("volume.remove", name, "DELETE", f"/volumes/{name}?{urlencode({'force': '1'})}").status == 204:
                self._volumes.remove(name)
