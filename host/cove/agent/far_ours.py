"""Cove's own engine on another computer: brought there, started, and linked as one in a VM that has no ports (docs/decisions/0060).

The engine, its streams and what runs in it stay when the connection breaks, and when this computer ends.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from typing import Any

from cove.agent.far import Far
from cove.agent.link import Link
from cove.agent.stream_folders import StreamFolders
from cove.agent.threads import abandonable
from cove.errors import BootError, TransportError
from cove.forward import ssh_agent
from cove.forward.docker_socket import ENGINE_SOCKET
from cove.forward.ports import PortForwards
from cove.forward.streamed import FarStream, StreamForwards
from cove.local.joined import join
from cove.machine import effective, outside, policy, registries
from cove.machine.paths import MachinePaths
from cove.machine.remote import Remote, label
from cove.machine.settings import Settings
from cove.plain import printable
from cove.progress import Event, Report
from cove.remote.connection import Connection
from cove.remote.engine import RemoteEngine, Running
from cove.remote.payload import Payload, payload
from cove.share import choice
from cove.share import folders as listing
from cove.share.manager import Folders
from cove.share.watching.watcher import Watcher
from cove.transport.base import Stream
from cove.transport.serial import SerialTransport

log = logging.getLogger(__name__)

STREAMS_S = 20.0
TELL_S = 30.0
READY_S = 120.0
"""In which an engine that runs answers the link."""
LINK = "/run/cove/link.sock"
_FORBIDDEN = (
    "the engine runs there, so probably its sshd forbids it: AllowStreamLocalForwarding yes in sshd_config(5) of that host, or for"
    " this user. Or another user there has started the engine: cove machine stop, and start"
)


class Ours(Far):
    _ends_there = True

    def __init__(self, paths: MachinePaths, remote: Remote) -> None:
        super().__init__(paths, remote)
        self._running: Running | None = None
        self._transport: SerialTransport | None = None
        self._plugs: StreamFolders | None = None
        self._folders: Folders | None = None
        self._watcher: Watcher | None = None
        self._forwards = StreamForwards(self._open)
        self._ports: PortForwards | None = None
        self._token = secrets.token_hex(16)
        self._ssh_agent = "none"

    def engine(self, connection: Connection) -> RemoteEngine:
        return RemoteEngine(connection, self.remote.instance, label(self._paths))

    def open_engine(self) -> Stream:
        return self._open(ENGINE_SOCKET)

    def _open(self, target: str) -> Stream:
        """For threads. Raises `TransportError`."""
        if self._transport is None:
            raise TransportError(f"{self.remote.address} is not connected")
        return self._transport.open_stream(target)

    async def _take(self, connection: Connection, report: Report) -> None:
        wanted = await asyncio.to_thread(effective.load, self._paths.settings)
        told = await asyncio.to_thread(outside.told, wanted)
        engine = self.engine(connection)
        # Each time: that host may have been installed anew since. When it is there it costs a question.
        brought = await self._brought(engine, report)
        report(Event("engine", "starting it, unless it runs"))
        given = await asyncio.to_thread(registries.told, wanted, policy.load())
        self._note_run()
        self._running = await abandonable(engine.start, brought, given, told.to_json())
        self._ssh_agent = wanted.ssh_agent
        if self._running.amiss:
            log.warning("%s", self._running.amiss)
            report(Event("engine", self._running.amiss))
        transport, plugs, listed = self._made(connection, self._running, wanted)
        self._plugs, self._transport = plugs, transport
        try:
            await abandonable(transport.connect)
        except TransportError as error:
            if not connection.is_active():
                raise
            raise TransportError(f"the engine's socket on {self.remote.address}: {error}", _FORBIDDEN) from error
        if self._ports is None:
            self._ports = PortForwards(self._forwards, wanted.bind_address, confined=True)
        self._folders = Folders(self._paths, plugs, listed, choice.AUTO, self._token, anew=True)
        before = self.link
        self.link = Link(self._connect_link, self._ports, self._running.boot_id, told, self._folders)
        if before is not None:
            self.link.on_level = before.on_level
        self._watcher = self.link.watcher = Watcher(self._folders.carried, self.link.tell_changes)
        self._folders.plug()
        self.link.keep()
        try:
            await asyncio.wait_for(self.link.ready.wait(), READY_S)
        except TimeoutError:
            raise BootError(
                f"the engine on {self.remote.address} did not answer within {READY_S:.0f} s",
                f"end it and start it again: cove machine restart {self._paths.name}",
            ) from None
        missing = (await asyncio.to_thread(listing.wanted, wanted))[1]
        if amiss := [*missing, *await self._folders.amiss()]:
            report(Event("folders", "; ".join(amiss)))

    async def _brought(self, engine: RemoteEngine, report: Report) -> Payload:
        last = Event("engine", "bringing it there")

        def progress(event: Event) -> None:
            nonlocal last
            last = event
            self._loop.call_soon_threadsafe(report, event)

        def bring() -> Payload:
            engine.found.check()
            made = payload(engine.found.architecture, progress)
            engine.install(made, progress)
            return made

        bringing = asyncio.ensure_future(abandonable(bring))
        try:
            while not bringing.done():  # a slow line takes minutes, and who waits is to know that somebody is there
                await asyncio.wait({bringing}, timeout=TELL_S)
                if not bringing.done():
                    report(last)
            return bringing.result()
        finally:
            bringing.cancel()

    def _made(
        self, connection: Connection, running: Running, wanted: Settings
    ) -> tuple[SerialTransport, StreamFolders, list[listing.Folder]]:
        """The streams there, with the services that this computer has for them."""

        def dial(_within_s: float) -> socket.socket:
            try:
                return join(FarStream(connection.open_stream(running.streams)))
            except (TransportError, RuntimeError) as error:  # nobody there, or no more threads here
                raise ConnectionRefusedError(str(error)) from error

        transport, plugs = SerialTransport(dial, STREAMS_S), StreamFolders(self._paths.folder_keys)
        agent = ssh_agent.Service(lambda: ssh_agent.place(self._ssh_agent))
        transport.serve(ssh_agent.NAME, agent.serve)
        listed, said = listing.wanted(wanted)
        for line in said:
            log.warning("%s", line)
        for folder in listed:
            transport.serve(folder.tag, plugs.handler(folder.tag))
        return transport, plugs, listed

    def _connect_link(self) -> socket.socket:
        """For threads. Raises `OSError`."""
        try:
            return join(FarStream(self._open(LINK)))
        except (TransportError, RuntimeError) as error:
            raise ConnectionRefusedError(str(error)) from error

    async def _drop(self) -> None:
        """Ports stay bound: who connects meanwhile is turned away, and nobody else gets them."""
        if self.link is not None:
            self.link.leave()
        transport, self._transport = self._transport, None
        if transport is not None:
            await asyncio.to_thread(transport.close)
        if self._watcher is not None:
            await self._watcher.close()
            self._watcher = None
        if self._plugs is not None:
            self._plugs.close()
        if self._folders is not None:
            await self._folders.close()

    async def close(self) -> None:
        await super().close()
        if self.link is not None:
            await self.link.close()
        await asyncio.to_thread(self._forwards.close)

    async def renew(self) -> None:
        wanted = await asyncio.to_thread(effective.load, self._paths.settings)
        self._ssh_agent = wanted.ssh_agent
        told = await asyncio.to_thread(outside.told, wanted)
        if self.link is not None:
            self.link.tell_outside(told)

    async def _stop_engine(self, connection: Connection, report: Report, *, hurried: bool) -> None:
        report(Event("stop", f"stopping containers and the engine on {self.remote.address}"))
        await abandonable(self.engine(connection).stop, hurried=hurried)  # which lets go of its ports by the link

    def _shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"instance": self.remote.instance}
        if self._running is not None:
            shown |= {"boot_id": self._running.boot_id, "image": self._running.digest}
        if self._folders is not None:
            shown |= {"folders": self._folders.status(), "folder_driver": choice.AUTO}
        if self._watcher is not None and self._watcher.trouble:
            shown["changes"] = sorted(set(self._watcher.trouble.values()))
        if self.link is not None and self.link.engine is not None:
            engine = self.link.engine
            shown |= {
                "engine_version": printable(engine.engine_version),
                "api_version": printable(engine.api_version),
            }
        if self.lost_ports:
            shown["lost_ports"] = dict(self.lost_ports)
        return shown
