"""Cove's own API for the page: settings, state and figures, actions; no machine runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.dashboard import figures, machine_state
from cove.dashboard.figures import Figures, Meter
from cove.dashboard.machine_actions import Actions
from cove.machine import settings
from cove.machine.paths import MachinePaths
from cove.support import watching

BOUND_S = 30.0
SECRET = "http://me:p@ss:w0rd@proxy.example:3128"


def shown(dashboard: Any, key: str) -> Any:
    rows = dashboard.browse("GET", "api/settings").json["settings"]
    return next(row for row in rows if row["key"] == key)["value"]


def put(dashboard: Any, **values: Any) -> Any:
    return dashboard.browse("PUT", "api/settings", json.dumps(values).encode())


def stored(paths: MachinePaths) -> settings.Settings:
    return settings.parse(paths.settings.read_text(), paths.settings)


def test_a_password_that_is_shown_masked_stays_what_it_is(dashboard: Any, paths: MachinePaths) -> None:
    assert put(dashboard, http_proxy=SECRET).status == 200
    seen = shown(dashboard, "http_proxy")
    assert seen == "http://xxxxx:xxxxx@proxy.example:3128"
    assert put(dashboard, http_proxy=seen).status == 200
    assert stored(paths).http_proxy == SECRET
    assert put(dashboard, http_proxy=seen.replace("3128", "8080")).status == 200
    assert stored(paths).http_proxy == SECRET.replace("3128", "8080")


@pytest.mark.parametrize(
    "value", ["http://xxxxx:xxxxx@evil.example:3128", "http://xxxxx:xxxxx@proxy.example.evil:3128"]
)
def test_no_other_host_gets_it(dashboard: Any, paths: MachinePaths, value: str) -> None:
    put(dashboard, http_proxy=SECRET)
    answer = put(dashboard, http_proxy=value)
    assert answer.status == 422
    assert "login of http_proxy" in answer.json["errors"]["http_proxy"]
    assert stored(paths).http_proxy == SECRET


def test_the_mask_is_no_login_of_a_setting_that_had_none(dashboard: Any, paths: MachinePaths) -> None:
    put(dashboard, https_proxy="http://proxy.example:1")
    assert put(dashboard, https_proxy="http://xxxxx:xxxxx@proxy.example:1").status == 422
    assert stored(paths).https_proxy == "http://proxy.example:1"


def told(dashboard: Any) -> Iterator[dict[str, Any]]:
    """What a page that watches the machine hears."""
    page = dashboard.socket("api/machine/watch")
    assert json.loads(page.recv())["status"] == 200
    while True:
        for event in page.recv().decode().split("\n\n"):
            if event:
                yield json.loads(event.removeprefix("data: "))


def test_figures_go_on_after_one_that_could_not_be_had(dashboard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([OSError("no"), RuntimeError("no")])

    def look(*_: object) -> Figures:
        if (error := next(looks, None)) is not None:
            raise error
        return Figures(cpu=1.0)

    monkeypatch.setattr(machine_state, "FIGURES_S", 0.01)
    monkeypatch.setattr(Meter, "look", look)
    assert next(each for each in told(dashboard) if (each.get("figures") or {}).get("cpu") == 1.0)


def test_a_disk_that_is_removed_this_moment_has_no_size(paths: MachinePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def removed(disk: Path) -> int:
        disk.unlink()
        return disk.stat().st_blocks

    paths.disk.touch()
    monkeypatch.setattr(figures, "allocated", removed)
    assert Meter(paths).look(None) == Figures()


def test_watching_the_folder_keeps_nobody_waiting(dashboard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It visits each directory below."""
    by: list[threading.Thread] = []
    make = watching.for_this_system

    def made(tell: Any) -> Any:
        source = make(tell)
        watch: Callable[..., None] = source.watch

        def noted(within: Path, folder: Path) -> None:
            by.append(threading.current_thread())
            watch(within, folder)

        monkeypatch.setattr(source, "watch", noted)
        return source

    monkeypatch.setattr(watching, "for_this_system", made)
    assert next(told(dashboard))["state"]["state"] == "stopped"
    assert by
    assert dashboard.thread not in by


def test_one_thing_is_done_at_a_time(dashboard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of two who ask for it when nothing is done yet, and whose requests end later."""
    done = threading.Event()
    monkeypatch.setattr(Actions, "_do", lambda *_, **__: done.wait(BOUND_S))
    head = dashboard.head("POST", "api/machine/stop", "Transfer-Encoding: chunked", "Expect: 100-continue")
    first, second = dashboard.raw(head), dashboard.raw(head)
    for sock in (first, second):
        assert b" 100 " in sock.recv(1 << 10)
    first.sendall(b"0\r\n\r\n")
    assert b" 200 " in first.recv(1 << 10).splitlines()[0]
    second.sendall(b"0\r\n\r\n")
    assert b" 409 " in second.recv(1 << 10).splitlines()[0]
    done.set()
    first.close()
    second.close()


@pytest.mark.parametrize("key", ["cpus", "memory", "suspend_after"])
def test_a_field_that_was_emptied_is_refused_by_its_name(dashboard: Any, paths: MachinePaths, key: str) -> None:
    before = paths.settings.read_text()
    answer = put(dashboard, **{key: ""})
    assert answer.status == 422
    assert [*answer.json["errors"]] == [key]
    assert paths.settings.read_text() == before
    assert put(dashboard, **{key: None}).status == 200
