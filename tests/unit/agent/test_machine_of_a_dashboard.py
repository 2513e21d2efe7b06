"""The dashboard and a machine: its state as it changes, actions with their progress, figures; agent, locks and sockets are real."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import websocket
from cove.cli.dashboard import PROCESS
from cove.dashboard import launch
from cove.local.sockets import connect
from cove.machine import lifecycle
from cove.machine.paths import MachinePaths
from cove.support import watching
from cove.support.watching import changes

BOUND_S = 60.0


class Page:
    """A browser that has come in."""

    def __init__(self, url: str) -> None:
        self.port = urlsplit(url).port
        answer = self._ask("GET", url.partition(f":{self.port}")[2], {})
        answer.read()
        self.base = str(answer.headers["Location"])
        self.cookie = str(answer.headers["Set-Cookie"]).partition(";")[0]

    def _ask(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=BOUND_S)
        connection.request(method, target, body or None, headers)
        return connection.getresponse()

    def ask(self, method: str, path: str, body: Any = None) -> http.client.HTTPResponse:
        headers = {"Cookie": self.cookie, "Origin": f"http://127.0.0.1:{self.port}"}
        return self._ask(method, self.base + path, headers, b"" if body is None else json.dumps(body).encode())

    def told(self, path: str) -> Any:
        return json.loads(self.ask("GET", path).read())

    def act(self, action: str) -> list[dict[str, Any]]:
        """All that is told of it."""
        answer = self.ask("POST", f"api/machine/{action}")
        assert answer.status == 200, answer.read()
        return [*events(answer.read())]

    def watch(self) -> Iterator[dict[str, Any]]:
        with contextlib.closing(
            websocket.create_connection(
                f"ws://127.0.0.1:{self.port}{self.base}api/machine/watch", timeout=BOUND_S, cookie=self.cookie,
                origin=f"http://127.0.0.1:{self.port}",
            )
        ) as page:  # fmt: skip
            assert json.loads(page.recv())["status"] == 200
            while True:
                yield from events(page.recv())


def events(data: bytes | str) -> Iterator[dict[str, Any]]:
    text = data if isinstance(data, str) else data.decode()
    for event in text.split("\n\n"):
        if event:
            yield json.loads(event.removeprefix("data: "))


def until(watched: Iterator[dict[str, Any]], holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    return next(each for each in watched if holds(each))


def in_state(state: str) -> Callable[[dict[str, Any]], bool]:
    return lambda told: told.get("state", {}).get("state") == state


@pytest.fixture
def page(cove: Any) -> Iterator[Page]:
    yield Page(launch.address("default", PROCESS))
    launch.end("default")


@pytest.fixture
def made(cove: Any) -> MachinePaths:
    paths: MachinePaths = cove.make()
    return paths


def test_the_machine_is_started_and_stopped(page: Page, made: MachinePaths) -> None:
    assert page.told("api/machine")["state"] == "stopped"
    watched = page.watch()
    assert until(watched, lambda told: "state" in told)["state"]["state"] == "stopped"
    said = page.act("start")
    assert said[-1] == {"done": True}
    assert {"boot", "ready"} & {each["progress"]["phase"] for each in said[:-1]}
    running = until(watched, in_state("running"))["state"]
    assert running["cpus"] == 2
    assert running["settings"]["disk"] == 60 << 30
    figures = until(watched, lambda told: (told.get("figures") or {}).get("cpu") is not None)["figures"]
    assert figures["memory"] > 0
    assert figures["disk"] > 0
    assert page.told("api/machines") == [{"name": "default", "state": "running"}]
    assert page.act("stop")[-1] == {"done": True}
    until(watched, in_state("stopped"))


def test_what_others_do_is_told_as_well(page: Page, cove: Any, made: MachinePaths) -> None:
    watched = page.watch()
    until(watched, in_state("stopped"))
    cove.run("machine", "start")
    until(watched, in_state("starting"))
    until(watched, lambda told: "progress" in told)
    until(watched, in_state("running"))
    cove.run("machine", "suspend")
    until(watched, in_state("suspended"))
    cove.run("machine", "stop")
    until(watched, in_state("stopped"))


def test_a_machine_is_suspended_though_the_page_has_streams(page: Page, made: MachinePaths) -> None:
    page.act("start")
    stream = websocket.create_connection(
        f"ws://127.0.0.1:{page.port}{page.base}docker/events", timeout=BOUND_S, cookie=page.cookie,
        origin=f"http://127.0.0.1:{page.port}",
    )  # fmt: skip
    assert page.act("suspend")[-1] == {"done": True}
    assert page.told("api/machine")["state"] == "suspended"
    assert page.ask("GET", "docker/_ping").status == 503
    assert page.told("api/machine")["state"] == "suspended", "to look has not woken it"
    stream.close()
    assert page.act("restart")[-1] == {"done": True}
    assert page.told("api/machine")["state"] == "running"


def test_a_machine_that_others_use_is_suspended_when_that_is_meant(page: Page, made: MachinePaths) -> None:
    page.act("start")
    with contextlib.closing(connect(made.docker_socket, BOUND_S)) as other:
        other.settimeout(BOUND_S)
        other.sendall(b"hello")  # the stand-in's engine is an echo
        assert other.recv(100) == b"hello"
        last = page.act("suspend")[-1]
        assert "in use" in last["error"]
        assert last["hint"]
        assert page.told("api/machine")["state"] == "running"
        assert page.act("suspend?force=1")[-1] == {"done": True}
    assert page.told("api/machine")["state"] == "suspended"


def test_a_failure_is_told_with_the_way_out(page: Page, cove: Any, made: MachinePaths) -> None:
    cove.qemu.unlink()
    last = page.act("start")[-1]
    assert str(cove.qemu) in last["error"]
    assert last["hint"]


def test_a_machine_that_is_yet_to_be_made_is_none_that_fails(page: Page) -> None:
    told = page.told("api/machine")
    assert (told["state"], told["missing"]) == ("stopped", True)
    assert page.told("api/machines") == []
    assert page.ask("GET", "api/settings").status == 409
    until(page.watch(), in_state("stopped"))


def test_settings_are_shown_and_changed(page: Page, made: MachinePaths) -> None:
    rows = {row["key"]: row for row in page.told("api/settings")["settings"]}
    assert (rows["cpus"]["type"], rows["cpus"]["value"], rows["cpus"]["needs_restart"]) == ("integer", 2, True)
    assert (rows["memory"]["type"], rows["memory"]["value"]) == ("size", "2GiB")
    assert rows["accelerator"]["choices"][0] == "auto"
    assert not rows["cpus"]["locked"]
    wish = {
        "cpus": 1,
        "memory": "1GiB",
        "suspend_running": True,
        "insecure_registries": ["a:5000", "b"],
        "http_proxy": "",
    }
    answer = page.ask("PUT", "api/settings", wish)
    assert (answer.status, json.loads(answer.read())["restart_needed"]) == (200, False)
    rows = {row["key"]: row for row in page.told("api/settings")["settings"]}
    assert {key: rows[key]["value"] for key in wish} == wish
    assert page.ask("PUT", "api/settings", {"cpus": None}).status == 200
    rows = {row["key"]: row for row in page.told("api/settings")["settings"]}
    assert (rows["cpus"]["value"], rows["cpus"]["origin"]) == (2, "default")


def test_of_settings_of_which_one_is_wrong_none_is_changed(page: Page, made: MachinePaths) -> None:
    before = made.settings.read_text()
    wish = {"suspend_running": True, "cpus": "many", "memory": 1, "disk": {}, "qemu": ["a"], "nothing": 1}
    answer = page.ask("PUT", "api/settings", wish)
    told = json.loads(answer.read())
    assert answer.status == 422
    assert set(told["errors"]) == {"cpus", "memory", "disk", "qemu", "nothing"}
    assert "must be a whole number" in told["errors"]["cpus"]
    assert made.settings.read_text() == before
    for nonsense in ([], "a", 1):
        assert page.ask("PUT", "api/settings", nonsense).status == 400


def test_findings_come_one_by_one(page: Page, made: MachinePaths) -> None:
    *found, last = events(page.ask("GET", "api/diagnose").read())
    assert last["done"]
    assert {"versions", "qemu", "engine"} <= {each["finding"]["check"] for each in found}


def test_who_watches_hears_of_an_agent_that_is_killed(cove: Any, made: MachinePaths) -> None:
    cove.run("machine", "start")

    async def look() -> None:
        open_changes = contextlib.aclosing(changes(lifecycle.existing("default")))
        async with asyncio.timeout(BOUND_S), open_changes as watched:
            async for told in watched:
                state = told.get("state", {})
                if state.get("agent_pid"):
                    cove.end()
                elif state.get("state") == "stopped":
                    return

    asyncio.run(look())


def test_where_a_folder_cannot_be_watched_the_state_is_looked_for(
    cove: Any, made: MachinePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: object) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(watching, "for_this_system", none)
    monkeypatch.setattr(watching, "UNTOLD_S", 0.05)

    async def look() -> None:
        async with asyncio.timeout(BOUND_S), contextlib.aclosing(changes(made)) as watched:
            async for told in watched:
                state = told.get("state", {})
                if state.get("state") == "stopped":
                    await asyncio.to_thread(cove.run, "machine", "start")
                elif state.get("state") == "running":
                    return

    asyncio.run(look())
