"""What the tray's process hears: of its machine, and of commands that ask it. In a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from cove.local.serving import serve
from cove.local.sockets import listen
from cove.machine.paths import MachinePaths
from cove.support.companion import Companion, answer
from cove.support.watching import changes

log = logging.getLogger(__name__)

MAX_REQUEST = 4096
BACKLOG = 16
ENDING_S = 2.0


class Listening:
    """`changed` is told of changes, and `end` called when a command asks for that, both in this thread; ``ready`` when commands are
    answered, with what went wrong otherwise."""

    def __init__(
        self, companion: Companion, changed: Callable[[dict[str, Any]], None], end: Callable[[], None],
        ready: Callable[[OSError | None], None],
    ) -> None:  # fmt: skip
        self._companion = companion
        self._changed = changed
        self._end = end
        self._ready = ready
        self._over = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="listening", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Hear nothing any more. For other threads."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(ENDING_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._listen())
        except Exception:
            log.exception("nothing is heard of the machine any more")
            self._changed({"state": {"state": "unknown", "trouble": f"see {self._companion.log}"}})

    async def _listen(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            commands = await serve(listen(self._companion.socket, BACKLOG), self._serve_command, MAX_REQUEST)
        except OSError as error:
            self._ready(error)
            return
        self._ready(None)
        watching = asyncio.ensure_future(self._watch())
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait((watching, over), return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
        finally:
            commands.close()
            self._companion.socket.unlink(missing_ok=True)
            for each in (watching, over):
                each.cancel()
            await asyncio.gather(watching, over, return_exceptions=True)

    async def _watch(self) -> None:
        async with contextlib.aclosing(changes(MachinePaths(self._companion.name))) as watched:
            async for change in watched:
                self._changed(change)

    async def _serve_command(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer(reader, writer, self._told)

    def _told(self, operation: Any) -> dict[str, Any]:
        if operation == "open":
            return {"version": version("cove")}
        if operation == "end":
            self._end()
            return {"done": True}
        return {"error": f"unknown request {operation!r}"}
