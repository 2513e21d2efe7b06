"""Does what the host tells of changes, in a thread of its own: its user id is another, and a folder may never answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable

from coved.link.protocol import Change, Changes
from coved.watching import mounted
from coved.watching.place import Place
from coved.watching.pretend import Pretender, become

log = logging.getLogger(__name__)

MAX_WAITING = 16
"""The host sends one message at a time; more come from one that has given up waiting."""


class Emitter:
    """Args: answer: called in the event loop with the id of a message whose changes have been done."""

    def __init__(self, answer: Callable[[int], None]) -> None:
        self._answer = answer
        self._waiting: queue.Queue[Changes] = queue.Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None

    def take(self, changes: Changes) -> None:
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, args=(loop,), name="changes", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait(changes)
        except queue.Full:
            log.warning("changes of folders are left out: the user's computer tells them faster than it answers")

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        become()
        while True:
            changes = self._waiting.get()
            try:
                emit(changes)
            except Exception:
                log.exception("changes in %s could not be shown to containers", changes.path)
            with contextlib.suppress(RuntimeError):  # the engine has ended
                loop.call_soon_threadsafe(self._answer, changes.id)


def emit(changes: Changes) -> None:
    """Do the changes again; those that cannot be are left out, for the next may undo what they are about."""
    mount = mounted.find(changes.path)
    if mount is None or mount.kind != "own":
        log.warning("changes in %s are told, which is no folder of Cove's own server", changes.path)
        return
    if changes.lost:
        mount.forget()
    with contextlib.closing(Place(mount.point)) as place:
        does = Pretender(place, mount.below(changes.path), changes.token)
        for change in changes.changes:
            _do(does, change)
        if changes.lost:
            _do(does, Change("attrib", "", "dir"))
        does.done()


def _do(does: Pretender, change: Change) -> None:
    try:
        does.do(change)
    except OSError as error:
        log.debug("%s of %.200s could not be done again: %s", change.kind, change.path, error)
