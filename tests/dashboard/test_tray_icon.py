"""`cove tray` on a screen, in a panel's tray (XEmbed): what it shows, and what clicks and keys do. The machine's QEMU is a stand-in."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.machine import lifecycle
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths
from cove.tray import launch, menu
from cove.tray.icons import COLOURS
from fake_cove import Cove, cove_of_its_own
from unix_engine import serve
from xtray import BOUND_S, Screen, screen, until


@pytest.fixture(scope="module")
def shown() -> Iterator[Screen]:
    with screen() as made:
        yield made


@pytest.fixture
def cove(shown: Screen, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cove]:
    for name, value in shown.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with cove_of_its_own(monkeypatch) as made:
        yield made
        launch.end("default")


@pytest.fixture
def tray(cove: Cove, shown: Screen) -> Cove:
    """A machine that is made, with its icon."""
    cove.make()
    cove.run("tray", "--wait", "60")
    has_icon(shown, menu.STOPPED)
    return cove


def has_icon(shown: Screen, state: str) -> None:
    until(lambda: shown.icon_has(COLOURS[state]), f"the icon tells that the machine is {state}")


def test_the_machine_is_started_and_stopped_with_the_keyboard(tray: Cove, shown: Screen) -> None:
    shown.open_menu()
    shown.press("Down", "Down", "Return")  # the first below the machine's line that can be chosen: Start
    has_icon(shown, menu.RUNNING)
    assert tray.status()["state"] == "running"
    shown.open_menu()
    shown.press("Down", "Down", "Return")  # Stop
    has_icon(shown, menu.STOPPED)
    assert tray.status()["state"] == "stopped"


def test_the_icon_follows_what_others_do(tray: Cove, shown: Screen) -> None:
    tray.run("machine", "start")
    has_icon(shown, menu.RUNNING)
    tray.run("machine", "suspend")
    has_icon(shown, menu.SUSPENDED)


def test_to_open_the_menu_starts_nothing(tray: Cove, shown: Screen) -> None:
    shown.open_menu()
    shown.close_menu()
    assert tray.status()["state"] == "stopped"
    has_icon(shown, menu.STOPPED)


def test_it_quits_by_its_menu_and_the_machine_stays(tray: Cove, shown: Screen) -> None:
    tray.run("machine", "start")
    has_icon(shown, menu.RUNNING)
    shown.open_menu()
    shown.press("Up", "Return")  # the last
    until(FileLock(launch.of("default").lock).is_free, "the process ends")
    until(lambda: not shown.icon_has(COLOURS[menu.RUNNING]), "the icon goes")
    assert tray.status()["state"] == "running"


def test_there_is_one_for_a_machine(tray: Cove) -> None:
    assert tray.run("tray").stdout == "machine default is in the tray already\n"
    assert tray.run("tray", "--quit").stdout == "the icon of machine default is gone\n"
    assert json.loads(tray.run("tray", "--json").stdout) == {"machine": "default", "shown": True}


def test_a_signal_ends_it_in_order(tray: Cove) -> None:
    ours = launch.of("default")
    found = subprocess.run(["fuser", str(ours.lock)], capture_output=True, text=True, timeout=BOUND_S, check=True)
    subprocess.run(["kill", found.stdout.split()[0]], timeout=BOUND_S, check=True)
    until(FileLock(ours.lock).is_free, "the process ends")
    assert json.loads(ours.log.read_text().splitlines()[-1])["message"] == "the tray ends"
    assert not ours.socket.exists()


def test_a_desktop_without_a_tray_is_told(cove: Cove, shown: Screen, tmp_path: Path) -> None:
    with screen(panel=False) as bare:
        cove.make()
        done = subprocess.run(
            [sys.executable, "-m", "cove", "tray", "--wait", "0"], env={**cove.environment, **bare.environment},
            capture_output=True, text=True, timeout=BOUND_S, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "this desktop has no tray" in done.stderr


@pytest.fixture
def seems_to_run(cove: Cove) -> Iterator[Callable[[Callable[[socket.socket], None]], MachinePaths]]:
    """A machine with an engine that does what is given."""
    paths = lifecycle.init("default")
    paths.make_run_dir()
    lock = FileLock(paths.vm_lock)
    assert lock.try_acquire()
    ends: list[Callable[[], None]] = []

    def begin(behave: Callable[[socket.socket], None]) -> MachinePaths:
        ends.append(serve(paths.docker_socket, behave))
        return paths

    yield begin
    for end in ends:
        end()
    lock.release()


def test_a_containers_port_is_opened(
    cove: Cove, shown: Screen, seems_to_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" >{seen}.new; mv {seen}.new {seen}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    ports = [{"Type": "tcp", "PrivatePort": 80, "PublicPort": 18080}]
    rows = [{"Names": [name], "State": "running", "Ports": ports} for name in ("/other", "/web")]
    looked = threading.Event()

    def engine(client: socket.socket) -> None:
        asked = client.recv(4096)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        if b"/events" in asked:
            client.recv(100)
        else:
            assert looked.wait(BOUND_S)
            client.sendall(json.dumps(rows).encode())

    seems_to_run(engine)
    cove.run("tray", "--wait", "60")
    has_icon(shown, menu.RUNNING)
    shown.open_menu()
    small = shown.menu()
    looked.set()
    until(lambda: shown.menu() != small, "the containers are shown")
    shown.press("Up", "Up", "Return")  # the last but "Quit"
    until(seen.exists, "the browser is told")
    assert seen.read_text() == "http://localhost:18080"
