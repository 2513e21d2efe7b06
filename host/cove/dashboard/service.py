"""The dashboard's process: serves browsers on 127.0.0.1, and commands on its control socket, until no page has been open for a
while."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from cove.dashboard import choices, owners
from cove.dashboard.choices import Choices
from cove.dashboard.diagnosis import Diagnosis
from cove.dashboard.docker_proxy import Logins
from cove.dashboard.doorkeeper import Doorkeeper
from cove.dashboard.engine import Engine
from cove.dashboard.http import Connection, Gone
from cove.dashboard.machine_actions import ACTIONS, Actions
from cove.dashboard.machine_state import State
from cove.dashboard.places import Places
from cove.dashboard.settings_form import SettingsForm
from cove.dashboard.site import Handler, Site
from cove.dashboard.static import Files
from cove.local.serving import serve
from cove.local.sockets import listen
from cove.machine.paths import MachinePaths
from cove.support import companion

log = logging.getLogger(__name__)

UNUSED_S = 15 * 60.0
"""Without a page's connection, and then the process ends."""
MAX_CONNECTIONS = 256
MAX_OUTSIDE = 32
"""Connections of those who have not been let in; the one that has waited longest makes room for the next."""
MAX_REQUEST = 4096
ENDING_S = 2.0
BACKLOG = 64


class Service:
    def __init__(
        self, places: Places, files: Files, chosen: Choices, logins: Logins, unused_s: float = UNUSED_S
    ) -> None:
        self._places = places
        self._files = files
        self._chosen = chosen
        self._logins = logins
        self._unused_s = unused_s
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._in_use = 0
        self._timer: asyncio.TimerHandle | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._outside: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._inside: set[asyncio.Task[None]] = set()
        self._doorkeeper: Doorkeeper
        self._site: Site
        self._port = 0

    def end(self) -> None:
        self._ended.set()

    async def run(self, listening: Callable[[], None]) -> None:
        """Serve until the end; `listening` is called when commands are answered. Raises `OSError`."""
        # Any port: on one that it had before, the page of whoever had it meanwhile may have left a service worker in the browser.
        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._port = listener.getsockname()[1]
        self._doorkeeper = Doorkeeper(self._port)
        self._site = self._made_site()
        pages = await asyncio.start_server(self._serve_page, sock=listener)
        commands = await serve(listen(self._places.socket, BACKLOG), self._serve_command, MAX_REQUEST)
        self._used(0)
        log.info("the dashboard of machine %s is served on port %d", self._places.name, self._port)
        listening()
        try:
            await self._ended.wait()
        finally:
            commands.close()
            self._places.socket.unlink(missing_ok=True)
            pages.close()
            for client in self._clients:
                client.cancel()
            if self._clients:
                await asyncio.wait(self._clients, timeout=ENDING_S)

    def _made_site(self) -> Site:
        paths = MachinePaths(self._places.name)
        engine, state, form = Engine(paths), State(paths), SettingsForm(paths)
        actions = Actions(paths, engine, self._used)
        handlers: dict[str, Handler] = {
            "GET api/machines": state.machines,
            "GET api/machine": state.machine,
            "GET api/machine/watch": state.watch,
            **{f"POST api/machine/{action}": actions.answer for action in ACTIONS},
            "GET api/settings": form.show,
            "PUT api/settings": form.change,
            "GET api/diagnose": Diagnosis(paths).answer,
            "GET api/choices": self._chosen.show,
            "PUT api/choices": self._chosen.change,
        }
        return Site(self._doorkeeper, engine, self._files, handlers, self._used, self._logins)

    def _used(self, change: int) -> None:
        self._in_use += change
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._in_use:
            self._timer = self._loop.call_later(self._unused_s, self.end)

    async def _serve_page(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        peer = writer.get_extra_info("peername")
        if peer is None or len(self._inside) >= MAX_CONNECTIONS or owners.of_client(peer[1], self._port) is False:
            writer.transport.abort()
            return
        if len(self._outside) >= MAX_OUTSIDE:
            self._outside.pop(next(iter(self._outside))).transport.abort()
        self._clients.add(task)
        self._outside[task] = writer

        def let_in() -> None:
            self._outside.pop(task, None)
            self._inside.add(task)

        try:
            await Connection(reader, writer, let_in).serve(self._site.respond)
        except Gone:
            pass
        except asyncio.CancelledError:  # its session is over, or this process: who does not read keeps nothing
            writer.transport.abort()
        finally:
            self._clients.discard(task)
            self._outside.pop(task, None)
            self._inside.discard(task)
            writer.transport.abort() if self._ended.is_set() else writer.close()

    async def _serve_command(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await companion.answer(reader, writer, self._told)

    def _told(self, operation: Any) -> dict[str, Any]:
        if operation == "open":
            self._used(0)  # whoever asked has time to come
            url = f"http://127.0.0.1:{self._port}/open?token={self._doorkeeper.token()}"
            return {"url": url, "version": version("cove")}
        if operation == "end":
            self.end()
            return {"done": True}
        return {"error": f"unknown request {operation!r}"}


def main(places: Places, listening: Callable[[], None], logins: Logins) -> None:
    """Serve in this process until the end, or a signal that asks for it. Raises `OSError`."""

    async def run() -> None:
        chosen = Choices(choices.place())
        service = Service(places, Files(chosen.dressed), chosen, logins)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            if sys.platform == "win32":
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(service.end))
            else:
                loop.add_signal_handler(number, service.end)
        await service.run(listening)

    asyncio.run(run())
    log.info("the dashboard ends")
