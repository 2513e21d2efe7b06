"""The machine's state, told as it changes: by its agent, or where there is none by the folder in which one would appear."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from cove.agent import client
from cove.agent.threads import abandonable
from cove.errors import CoveError, MachineNotFound
from cove.local.sockets import connect
from cove.machine import effective
from cove.machine.paths import MachinePaths, private_dir, runtime_dir
from cove.progress import REACHABLE
from cove.share.watching.source import Seen, Source, for_this_system
from cove.support import status

log = logging.getLogger(__name__)

LISTENING_S = 5.0
"""In which an agent whose socket has appeared listens on it."""
AGAIN_S = 0.1
UNTOLD_S = 2.0
"""Between two looks where nothing tells of changes: an agent of an older Cove, a folder that cannot be watched."""


def shown(paths: MachinePaths) -> dict[str, Any]:
    """As `cove machine status --json`, and what the settings give it (`settings`); `missing` when it is yet to be made.

    Raises `CoveError`. Blocks.
    """
    try:
        told = status.of(paths.name)
    except MachineNotFound:
        return {"machine": paths.name, "state": "stopped", "missing": True}
    with contextlib.suppress(CoveError):
        wanted = effective.load(paths.settings)
        told["settings"] = {"cpus": wanted.cpus, "memory": wanted.memory, "disk": wanted.disk}
    return told


async def changes(paths: MachinePaths) -> AsyncGenerator[dict[str, Any], None]:
    """{"state": …} now and whenever it has changed, {"progress": …} of what is being done; without end."""
    async with _Folder(paths) as folder:
        while True:
            folder.changed.clear()
            agent = await _agent(paths)
            if agent is None:
                yield {"state": await _state(paths)}
                await folder.wait()
                continue
            reader, writer = agent
            try:
                async for told in _lines(reader):
                    if "status" in told:
                        yield {"state": await _state(paths)}
                    elif "event" not in told:
                        yield {"state": await _state(paths)}
                        await asyncio.sleep(UNTOLD_S)
                    elif told["event"].get("phase") != REACHABLE:
                        yield {"progress": told["event"]}
            finally:
                writer.transport.abort()


async def _state(paths: MachinePaths) -> dict[str, Any]:
    try:
        return await abandonable(shown, paths)
    except CoveError as error:
        return {"machine": paths.name, "state": "unknown", "trouble": error.message, "hint": error.hint}


async def _agent(paths: MachinePaths) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """A connection on which it tells of changes; None when there is no agent."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LISTENING_S
    while True:
        try:
            sock = await abandonable(connect, paths.agent_socket, client.CONNECT_TIMEOUT_S)
            reader, writer = await asyncio.open_connection(sock=sock, limit=client.MAX_LINE)
            writer.write(json.dumps({"op": client.WATCH}).encode() + b"\n")
            return reader, writer
        except FileNotFoundError:
            return None
        except (OSError, CoveError):
            if loop.time() > deadline:  # what a dead one has left
                return None
        await asyncio.sleep(AGAIN_S)


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    with contextlib.suppress(OSError, ValueError):
        while line := await reader.readline():
            told = json.loads(line)
            if isinstance(told, dict):
                yield told


class _Folder:
    """The sockets of machines: `changed` is set when one of this machine's appears or goes."""

    def __init__(self, paths: MachinePaths) -> None:
        self._name = paths.name
        self._loop = asyncio.get_running_loop()
        self.changed = asyncio.Event()
        self._source: Source | None = None
        """None when it cannot be watched."""

    async def __aenter__(self) -> _Folder:
        try:
            folder = private_dir(runtime_dir()).resolve()
            self._source = for_this_system(self._tell)
            await abandonable(self._source.watch, folder, folder)
        except (OSError, CoveError) as error:
            self._close()
            log.warning("changes of the machine's state are looked for, and not told: %s", error)
        except asyncio.CancelledError:
            self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._source is not None:
            self._source.close()
        self._source = None

    async def wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UNTOLD_S if self._source is None else None):
                await self.changed.wait()

    def _tell(self, _folder: Path, seen: Sequence[Seen], lost: bool) -> None:
        if lost or any(self._name in (one.path.split("/")[0], one.to.split("/")[0]) for one in seen):
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.changed.set)
