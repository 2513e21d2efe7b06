"""The desktop's tray by Qt: StatusNotifierItem, XEmbed, the notification area, the menu bar. Qt is imported when an icon is to be shown."""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cove
from cove.errors import CoveError
from cove.local import pip
from cove.tray.icons import icon
from cove.tray.menu import DASHBOARD, Entry, Look

LOOK_S = 0.2
"""Between two looks for a tray: a desktop that has one later tells nobody."""
_SYSTEMS = Path(cove.__file__).parents[1] / "PySide6"
"""In the .deb a link to where Debian's own packages have it, which leads nowhere without them."""


def check_installed() -> None:
    """Raises `CoveError` with the command that installs what is missing."""
    if find_spec("PySide6") is None:
        raise CoveError("the tray icon needs Qt, which Cove's Python does not have", _install_hint())


def _install_hint() -> str:
    if _SYSTEMS.is_symlink():
        return "install Debian's: sudo apt install python3-pyside6.qtwidgets   (Debian 13 and later have it)"
    return pip.hint("PySide6-Essentials", "tray", alone=True)


def check_desktop() -> None:
    """Raises `CoveError` where no desktop can be: Qt would end the process without it."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise CoveError(
            "there is no desktop here to show an icon (no DISPLAY, no WAYLAND_DISPLAY)",
            "run it in a terminal of your desktop",
        )


class QtDesktop:
    """A desktop whose tray shows one icon. Made and run in the process's main thread. Raises `CoveError` when there is no tray within the
    time."""

    def __init__(self, wait_s: float) -> None:
        check_installed()
        check_desktop()
        # No icon in macOS' Dock: it has one in the menu bar.
        os.environ.setdefault("QT_MAC_DISABLE_FOREGROUND_APPLICATION_TRANSFORM", "1")
        try:
            from PySide6.QtCore import QSocketNotifier
            from PySide6.QtWidgets import QApplication, QMenu, QSystemTrayIcon
        except ImportError as error:
            raise CoveError(f"Qt cannot be loaded: {error}", "install the library that it names") from error
        self._app = QApplication(["cove"])
        self._app.setApplicationDisplayName("Cove")
        self._app.setQuitOnLastWindowClosed(False)
        deadline = time.monotonic() + wait_s
        while not QSystemTrayIcon.isSystemTrayAvailable():
            if time.monotonic() > deadline:
                raise CoveError(
                    "this desktop has no tray",
                    "GNOME shows icons with its extension AppIndicator; other desktops with a panel that has a tray",
                )
            self._app.processEvents()
            time.sleep(LOOK_S)
        self._icons: dict[str, Any] = {}
        self._menu = _Menu(QMenu(), self._choose)
        self._tray: Any = QSystemTrayIcon()
        self._chosen: Callable[[Entry], None] = lambda _: None
        self._reason = QSystemTrayIcon.ActivationReason.Trigger
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        # Work from other threads, and signals, come by a socket, which Qt waits for on each system.
        self._waking, woken = socket.socketpair()
        self._waking.setblocking(False)
        woken.setblocking(False)
        self._woken = woken
        self._notifier: Any = QSocketNotifier(woken.fileno(), QSocketNotifier.Type.Read)
        self._notifier.activated.connect(self._work)

    def run(self, opened: Callable[[], None], closed: Callable[[], None], chosen: Callable[[Entry], None]) -> None:
        """Show the icon until `quit`, or a signal that asks for the end."""
        self._chosen = chosen
        self._menu.widget.aboutToShow.connect(opened)
        self._menu.widget.aboutToHide.connect(closed)
        self._tray.activated.connect(self._activated)
        self._tray.setContextMenu(self._menu.widget)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.quit())
        signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
        self._tray.show()
        self._app.exec()
        self._tray.hide()

    def show(self, look: Look) -> None:
        if look.icon not in self._icons:
            self._icons[look.icon] = icon(look.icon)
        self._tray.setIcon(self._icons[look.icon])
        self._tray.setToolTip(look.tip)
        self._menu.show(look.menu)

    def languages(self) -> list[str]:
        """Of the desktop's user, as tags, the most liked first."""
        from PySide6.QtCore import QLocale

        return list(QLocale.system().uiLanguages())

    def notify(self, title: str, text: str) -> None:
        from PySide6.QtWidgets import QSystemTrayIcon

        self._tray.showMessage(title, text, QSystemTrayIcon.MessageIcon.Warning)

    def post(self, work: Callable[[], None]) -> None:
        self._posted.put(work)
        try:
            self._waking.send(b"\0")
        except BlockingIOError:
            pass  # it is awake
        except OSError:
            pass  # it has ended

    def quit(self) -> None:
        self._app.quit()

    def _choose(self, entry: Entry) -> None:
        self._chosen(entry)

    def _activated(self, reason: Any) -> None:
        # On macOS each click opens the menu.
        if reason == self._reason and sys.platform != "darwin":
            self._chosen(Entry("", DASHBOARD))

    def _work(self, *_: object) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            pass
        while True:
            try:
                work = self._posted.get_nowait()
            except queue.Empty:
                return
            work()


class _Menu:
    """A menu that changes while it is open: what was cleared and filled anew would close with the next key."""

    def __init__(self, widget: Any, chosen: Callable[[Entry], None]) -> None:
        self.widget = widget
        self._chosen = chosen
        self._entries: Sequence[Entry] = ()
        self._actions: list[Any] = []
        self._below: dict[int, _Menu] = {}

    def show(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        while len(self._actions) < len(entries):
            self._append()
        while len(self._actions) > len(entries):
            self.widget.removeAction(self._actions.pop())
        for number, (action, entry) in enumerate(zip(self._actions, entries, strict=True)):
            action.setSeparator(entry.is_separator)
            action.setText(entry.text.replace("&", "&&"))  # one would underline the next letter
            action.setEnabled(entry.can_be_chosen)
            self._show_below(number, action, entry.more)

    def _append(self) -> None:
        number = len(self._actions)
        action = self.widget.addAction("")
        action.triggered.connect(lambda *_: self._chosen(self._entries[number]))
        self._actions.append(action)

    def _show_below(self, number: int, action: Any, entries: Sequence[Entry]) -> None:
        if entries and number not in self._below:
            from PySide6.QtWidgets import QMenu

            self._below[number] = _Menu(QMenu(self.widget), self._chosen)
        if number in self._below:
            self._below[number].show(entries)
            action.setMenu(self._below[number].widget if entries else None)
