"""`cove tray` as a StatusNotifierItem, which KDE's panel and GNOME's extension show: a host reads its menu, and chooses there."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from cove.machine import lifecycle
from cove.machine.locks import FileLock
from cove.tray import launch, menu
from cove.tray.icons import COLOURS
from fake_cove import Cove, cove_of_its_own
from notifier_host import BOUND_S, Host, notifier_host
from unix_engine import serve
from xtray import screen, until


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """On a screen that has no other tray."""
    with screen(panel=False) as shown, notifier_host(tmp_path_factory.mktemp("b")) as (made, address):
        for name, value in {**shown.environment, "DBUS_SESSION_BUS_ADDRESS": address}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        yield made


@pytest.fixture
def cove(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cove]:
    with cove_of_its_own(monkeypatch) as made:
        yield made
        launch.end("default")


def labels(host: Host) -> list[str]:
    return [line.label for line in host.lines()]


def shows(host: Host, state: str) -> None:
    until(lambda: host.tip() == f"Cove: machine default: {state}", f"the icon says that the machine is {state}")


def test_what_is_chosen_there_is_done(host: Host, cove: Cove) -> None:
    cove.make()
    cove.run("tray", "--wait", "60")
    host.wait_for_icon()
    shows(host, "stopped")
    assert host.icon_has(COLOURS[menu.STOPPED])
    host.chooses("Start")
    shows(host, "running")
    assert host.icon_has(COLOURS[menu.RUNNING])
    assert cove.status()["state"] == "running"
    host.chooses("Suspend")
    shows(host, "suspended")
    assert {line.label: line.enabled for line in host.lines()}["Resume"]
    host.chooses("Stop")
    shows(host, "stopped")
    host.chooses("Quit (the machine stays as it is)")
    until(FileLock(launch.of("default").lock).is_free, "the process ends")


def test_it_speaks_japanese_where_the_desktop_does(host: Host, cove: Cove, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LANG", "LC_ALL", "LC_MESSAGES", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "ja_JP.UTF-8")
    cove.make()
    cove.run("tray", "--wait", "60")
    host.wait_for_icon()
    until(lambda: host.tip() == "Cove: マシン default: 停止", "the icon speaks Japanese")
    assert "ダッシュボードを開く" in labels(host)


def test_containers_are_followed_as_long_as_the_menu_is_open(host: Host, cove: Cove) -> None:
    paths = lifecycle.init("default")
    paths.make_run_dir()
    followers = 0

    def engine(client: socket.socket) -> None:
        nonlocal followers
        asked = client.recv(4096)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        if b"/events" not in asked:
            client.sendall(json.dumps([{"Names": ["/my_web"], "State": "running", "Ports": []}]).encode())
            return
        followers += 1
        client.settimeout(BOUND_S)
        client.recv(100)
        followers -= 1

    with FileLock(paths.vm_lock) as lock:
        assert lock.try_acquire()
        end = serve(paths.docker_socket, engine)
        cove.run("tray", "--wait", "60")
        host.wait_for_icon()
        shows(host, "running")
        assert not followers
        assert "my_web  (running)" not in labels(host)
        host.opens_menu()
        until(lambda: "my_web  (running)" in labels(host), "the container is shown")
        assert followers == 1
        host.closes_menu()
        until(lambda: not followers, "nothing follows events any more")
        end()
