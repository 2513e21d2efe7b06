"""The tray of a machine: hears what the machine does, shows it, and does what is chosen. What is shown by whom it does not know.

All of `Tray` runs in the desktop's thread but for what is named otherwise.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from cove.agent import ending, launch
from cove.errors import CoveError
from cove.machine.paths import MachinePaths
from cove.tray import menu
from cove.tray.containers import Container, Following
from cove.tray.menu import Known, Look
from cove.tray.words import Say, english

log = logging.getLogger(__name__)

FAILED = {
    menu.START: "Machine {name} did not start",
    menu.STOP: "Machine {name} was not stopped",
    menu.SUSPEND: "Machine {name} was not suspended",
    menu.DASHBOARD: "Machine {name} has no dashboard now",
}


class Desktop(Protocol):
    """What shows the icon."""

    def show(self, look: Look) -> None: ...

    def notify(self, title: str, text: str) -> None:
        """Of something that went wrong."""

    def post(self, work: Callable[[], None]) -> None:
        """Have it done in the desktop's thread, soon. For all threads."""

    def quit(self) -> None: ...


class Tray:
    """Of one machine.

    Args:
        open_dashboard: shows a machine's dashboard to its user; blocks, and raises `CoveError`.
        open_link: shows a page; blocks.
        say: puts what is shown into the desktop's language.
    """

    def __init__(
        self, paths: MachinePaths, desktop: Desktop, open_dashboard: Callable[[str], None],
        open_link: Callable[[str], object], say: Say = english,
    ) -> None:  # fmt: skip
        self._paths = paths
        self._desktop = desktop
        self._open_dashboard = open_dashboard
        self._open_link = open_link
        self._say = say
        self._known = Known(paths.name, {})
        self._shown: Look | None = None
        self._is_open = False
        self._following: Following | None = None
        self._followed: Following | None = None
        """The one before."""
        self._show()

    def changed(self, change: Mapping[str, Any]) -> None:
        """As of `cove.support.watching.changes`."""
        if "state" in change:
            self._know(status=change["state"])
        elif "progress" in change:
            self._know(progress=str(change["progress"].get("text", "")))

    def opened(self) -> None:
        """Somebody looks at the menu."""
        self._is_open = True
        self._end_following()  # it may have come to its bound
        self._show()

    def closed(self) -> None:
        self._is_open = False
        self._show()

    def chosen(self, entry: menu.Entry) -> None:
        if entry.link:
            self._in_background("a link", lambda: self._open_link(entry.link), lambda _: None)
        elif entry.action == menu.QUIT:
            self.quit()
        elif entry.action == menu.DASHBOARD:
            self._begin(menu.DASHBOARD, lambda: self._open_dashboard(self._paths.name))
        elif entry.action and not self._known.under_way:
            self._is_open = False
            self._know(under_way=entry.action, progress="")
            self._begin(entry.action, lambda: self._act(entry.action, self._followed))

    def quit(self) -> None:
        self._end_following()
        self._desktop.quit()

    def _begin(self, action: str, work: Callable[[], object]) -> None:
        def over(error: CoveError | None) -> None:
            if error is not None:
                text = "\n".join(part for part in (error.message, error.hint) if part)
                self._desktop.notify(self._say(FAILED[action], name=self._paths.name), text)
            if self._known.under_way == action:
                self._know(under_way="", progress="")

        self._in_background(action, work, over)

    def _act(self, action: str, followed: Following | None) -> None:
        """In a thread. Raises `CoveError`."""
        if followed is not None:
            followed.wait()  # a connection would be in the way of a suspension, and one that comes late undo it
        if action == menu.START:
            launch.ensure_running(self._paths.name)
        elif action == menu.STOP:
            ending.stop(self._paths)
        else:
            ending.suspend_once_left(self._paths)

    def _in_background(self, name: str, work: Callable[[], object], over: Callable[[CoveError | None], None]) -> None:
        def run() -> None:
            failed: CoveError | None = None
            try:
                work()
            except CoveError as error:
                failed = error
                log.warning("%s: %s %s", name, error.message, error.hint)
            except Exception as error:
                log.exception("%s failed", name)
                failed = CoveError(f"this is a bug in Cove: {type(error).__name__}: {error}", "the log has more of it")
            self._desktop.post(lambda: over(failed))

        threading.Thread(target=run, name=name, daemon=True).start()

    def _know(self, **changes: Any) -> None:
        self._known = replace(self._known, **changes)
        self._show()

    def _show(self) -> None:
        if not (self._is_open and self._known.runs and not self._known.under_way):
            self._end_following()
        elif self._following is None:
            self._follow()
        if not self._known.runs:
            self._known = replace(self._known, containers=None)
        look = menu.look(self._known, self._say)
        if look != self._shown:
            self._shown = look
            self._desktop.show(look)

    def _follow(self) -> None:
        def heard(containers: Sequence[Container]) -> None:
            if self._following is following:
                self._know(containers=containers)

        def told(containers: Sequence[Container]) -> None:
            self._desktop.post(lambda: heard(containers))

        following = self._following = Following(self._paths, told)

    def _end_following(self) -> None:
        if self._following is not None:
            self._following.end()
            self._followed, self._following = self._following, None
