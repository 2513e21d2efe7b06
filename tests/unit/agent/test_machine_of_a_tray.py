"""The tray and a machine, with a desktop that is a stand-in; agent, locks and sockets are real."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cove.local.sockets import connect
from cove.machine.paths import MachinePaths
from cove.tray import launch, menu
from cove.tray.listening import Listening
from cove.tray.menu import Entry, Look
from cove.tray.tray import Tray

BOUND_S = 60.0


class Standin:
    """A desktop: keeps what it is to show."""

    def __init__(self) -> None:
        self.posted: queue.Queue[Callable[[], None]] = queue.Queue()
        self.looks: list[Look] = []
        self.notes: list[tuple[str, str]] = []
        self.ended = False

    def show(self, look: Look) -> None:
        self.looks.append(look)

    def notify(self, title: str, text: str) -> None:
        self.notes.append((title, text))

    def post(self, work: Callable[[], None]) -> None:
        self.posted.put(work)

    def quit(self) -> None:
        self.ended = True

    def until(self, holds: Callable[[], Any]) -> None:
        """Do what is posted, until it holds."""
        deadline = time.monotonic() + BOUND_S
        while not holds():
            try:
                self.posted.get(timeout=max(0, deadline - time.monotonic()))()
            except queue.Empty:
                pytest.fail(f"it did not come about; shown: {self.looks[-1]}, told: {self.notes}")

    @property
    def look(self) -> Look:
        return self.looks[-1]

    def entry(self, action: str) -> Entry:
        return next(each for each in self.look.menu if each.action == action)


class User:
    """Somebody before a tray."""

    def __init__(self, paths: MachinePaths) -> None:
        self.desktop = Standin()
        self.dashboards: queue.Queue[str] = queue.Queue()
        self.links: queue.Queue[str] = queue.Queue()
        self.tray = Tray(paths, self.desktop, self.dashboards.put, self.links.put)
        self._companion = launch.of(paths.name)
        self._companion.make()
        listens = threading.Event()
        self._listening = Listening(
            self._companion,
            changed=lambda change: self.desktop.post(lambda: self.tray.changed(change)),
            end=lambda: self.desktop.post(self.tray.quit),
            ready=lambda error: listens.set(),
        )
        assert listens.wait(BOUND_S)

    def sees(self, icon: str) -> None:
        self.desktop.until(lambda: self.desktop.look.icon == icon)

    def chooses(self, action: str) -> None:
        self.desktop.until(lambda: self.desktop.entry(action).can_be_chosen)
        self.tray.chosen(self.desktop.entry(action))

    def leave(self) -> None:
        self.tray.quit()
        self._listening.end()


@pytest.fixture
def made(cove: Any) -> MachinePaths:
    paths: MachinePaths = cove.make()
    return paths


@pytest.fixture
def user(made: MachinePaths) -> Iterator[User]:
    somebody = User(made)
    yield somebody
    somebody.leave()


def test_what_is_chosen_is_done_and_seen(user: User, cove: Any) -> None:
    user.sees(menu.STOPPED)
    user.chooses(menu.START)
    assert user.desktop.look.icon == menu.BUSY, "at once"
    user.sees(menu.RUNNING)
    assert cove.status()["state"] == "running"
    user.chooses(menu.SUSPEND)
    user.sees(menu.SUSPENDED)
    user.chooses(menu.START)
    user.sees(menu.RUNNING)
    user.chooses(menu.STOP)
    user.sees(menu.STOPPED)
    assert cove.status()["state"] == "stopped"
    assert not user.desktop.notes


def test_what_others_do_is_seen_with_its_progress(user: User, cove: Any) -> None:
    user.sees(menu.STOPPED)
    cove.run("machine", "start")
    user.sees(menu.RUNNING)
    assert menu.BUSY in {look.icon for look in user.desktop.looks[1:]}
    cove.run("machine", "suspend")
    user.sees(menu.SUSPENDED)
    cove.run("machine", "stop")
    user.sees(menu.STOPPED)


def test_to_look_starts_and_wakes_nothing(user: User, cove: Any) -> None:
    user.sees(menu.STOPPED)
    user.tray.opened()
    user.tray.closed()
    assert cove.status()["state"] == "stopped"
    user.chooses(menu.START)
    user.sees(menu.RUNNING)
    user.chooses(menu.SUSPEND)
    user.sees(menu.SUSPENDED)
    user.tray.opened()
    user.tray.closed()
    assert cove.status()["state"] == "suspended"


def test_a_menu_that_was_open_does_not_keep_the_machine_from_being_suspended(user: User) -> None:
    user.chooses(menu.START)
    user.sees(menu.RUNNING)
    user.tray.opened()  # and the desktop does not tell that it was closed
    user.chooses(menu.SUSPEND)
    user.sees(menu.SUSPENDED)
    assert not user.desktop.notes


def test_a_machine_that_others_use_is_not_suspended_and_that_is_told(user: User, made: MachinePaths) -> None:
    user.chooses(menu.START)
    user.sees(menu.RUNNING)
    with contextlib.closing(connect(made.docker_socket, BOUND_S)) as other:
        other.settimeout(BOUND_S)
        other.sendall(b"hello")  # the stand-in's engine is an echo
        assert other.recv(100) == b"hello"
        user.chooses(menu.SUSPEND)
        user.desktop.until(lambda: user.desktop.notes)
    ((title, text),) = user.desktop.notes
    assert title == "Machine default was not suspended"
    assert "in use" in text
    user.sees(menu.RUNNING)


def test_a_failure_is_told_with_the_way_out(user: User, cove: Any) -> None:
    cove.qemu.unlink()
    user.chooses(menu.START)
    user.desktop.until(lambda: user.desktop.notes)
    ((title, text),) = user.desktop.notes
    assert title == "Machine default did not start"
    assert str(cove.qemu) in text
    user.desktop.until(lambda: user.desktop.entry(menu.START).can_be_chosen)


def test_the_dashboard_and_links_are_opened(user: User) -> None:
    user.chooses(menu.DASHBOARD)
    assert user.dashboards.get(timeout=BOUND_S) == "default"
    user.tray.chosen(Entry("web", link="http://localhost:8080"))
    assert user.links.get(timeout=BOUND_S) == "http://localhost:8080"


def test_it_ends_by_the_menu_or_a_command_and_the_machine_stays(user: User, cove: Any) -> None:
    user.chooses(menu.START)
    user.sees(menu.RUNNING)
    assert launch.of("default").asked("end") == {"done": True}
    user.desktop.until(lambda: user.desktop.ended)
    assert cove.status()["state"] == "running"
