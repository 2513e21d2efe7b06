"""A server on a real socket, over an engine that has what the handlers under test need and no containers."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from coved.activity import Activity
from coved.api import events, images, system, volumes
from coved.api.router import Router
from coved.api.server import Server
from coved.events import Events
from coved.images import Images
from coved.store.database import Database
from coved.supervisor import Door
from coved.volumes import Volumes


class NoContainers:
    def counts(self) -> dict[str, int]:
        return {"running": 0, "paused": 0, "stopped": 0}

    async def disk_usage(self) -> list[dict[str, Any]]:
        return []


@dataclass
class Served:
    """A running server. ``call`` runs a function in its event loop's thread."""

    socket: Path
    engine: Any
    router: Router
    loop: asyncio.AbstractEventLoop

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect(str(self.socket))
        return client

    def call(self, function: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)


@contextlib.contextmanager
def serve(tmp_path: Path) -> Iterator[Served]:
    """Serves from a thread, with everything under ``tmp_path``."""
    router = Router()
    for resource in (system, events, images, volumes):
        resource.routes(router)
    ready = threading.Event()
    box: list[Served] = []
    stop: list[Callable[[], None]] = []

    async def main() -> None:
        database = Database(tmp_path / "metadata.db")
        bus = Events()
        engine = SimpleNamespace(
            config=SimpleNamespace(version="0.1.0", root=tmp_path),
            identity="00000000-0000-0000-0000-000000000000",
            events=bus,
            images=Images(database, bus, tmp_path),
            volumes=Volumes(database, bus, tmp_path),
            containers=NoContainers(),
            activity=Activity(lambda: False),
        )
        await engine.images.start(tmp_path / "no-starter.tar")
        await engine.volumes.start()
        door = Door(tmp_path / "docker.sock")
        server = Server(engine, router, door.listener)  # type: ignore[arg-type]
        server.start()
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        box.append(Served(tmp_path / "docker.sock", engine, router, loop))
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))  # type: ignore[arg-type, return-value]
        ready.set()
        await ended.wait()
        await server.stop()
        door.remove()
        database.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield box[0]
    finally:
        stop[0]()
        thread.join(10)
    assert not thread.is_alive()
