"""The tray's process. Started by `cove.tray.launch`, which reads from it once the icon is there."""

from __future__ import annotations

import logging
import os
import webbrowser
from collections.abc import Callable

from cove.agent import logs
from cove.errors import CoveError, MachineBusy
from cove.machine.files import MAX_LOG, rotate
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths
from cove.support import companion
from cove.tray import words
from cove.tray.launch import of
from cove.tray.listening import Listening
from cove.tray.qt import QtDesktop
from cove.tray.tray import Tray

log = logging.getLogger(__name__)

LOOKED_AT_S = 0.5


def run(name: str, wait_s: float, open_dashboard: Callable[[str], None]) -> int:
    """Show the icon of a machine until its end, unless another process does; returns the exit status."""
    ours = of(name)
    ours.make()
    rotate(ours.log, MAX_LOG)
    lock = FileLock(ours.lock)
    try:
        lock.acquire(LOOKED_AT_S, "the tray")  # whoever asks whether it is free holds it for a moment
    except MachineBusy:
        return 0  # another one is there already: whoever started this one will find it
    logs.begin(ours.log)
    try:
        _show(ours, wait_s, open_dashboard)
    except CoveError as error:
        companion.ready(error)
        return 1
    except Exception:
        log.exception("the tray failed")
        return 1
    log.info("the tray ends")
    logging.shutdown()
    os._exit(0)  # what was begun for the user in a thread may wait for a machine


def _show(ours: companion.Companion, wait_s: float, open_dashboard: Callable[[str], None]) -> None:
    """Raises `CoveError`."""
    desktop = QtDesktop(wait_s)
    tray = Tray(MachinePaths(ours.name), desktop, open_dashboard, webbrowser.open, words.of(desktop.languages()))

    def listens(error: OSError | None) -> None:
        companion.ready(None if error is None else CoveError(f"{ours.socket} cannot be listened on: {error}"))
        if error is not None:
            desktop.post(tray.quit)

    listening = Listening(
        ours,
        changed=lambda change: desktop.post(lambda: tray.changed(change)),
        end=lambda: desktop.post(tray.quit),
        ready=listens,
    )
    desktop.run(tray.opened, tray.closed, tray.chosen)
    listening.end()
