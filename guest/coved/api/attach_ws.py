"""``GET /containers/{id}/attach/ws``: a container's streams on a WebSocket.

The runtime knows no WebSockets, so that here, unlike elsewhere, the engine stands between client and runtime.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from coved.api import compat
from coved.api.containers import detach_keys
from coved.api.http import Request, Response
from coved.api.router import Router
from coved.containers.logs import reader as logs
from coved.runtime.spec import Attachment

if TYPE_CHECKING:
    from coved.api.websocket import WebSocket
    from coved.containers.container import Container
    from coved.engine import Engine

_CHUNK = 64 * 1024
INPUT_LEFT_S = 5.0
"""How long the process has for each piece of what a client that has gone sent before it went."""


def routes(router: Router) -> None:
    router.add("GET", "/containers/{id*}/attach/ws", attach)


async def attach(engine: Engine, request: Request) -> Response | None:
    container = engine.containers.get(request.match["id"])
    keys = detach_keys(request.query.str("detachKeys"))
    engine.containers.must_be_attachable(container)
    from coved.api import websocket  # few clients want it

    if (refusal := websocket.refusal(request.headers)) is not None:
        return refusal
    hijacked = await request.upgrade(websocket.head(request.headers))
    client = websocket.WebSocket(hijacked, text=compat.websocket_text(request.version))
    try:
        await _serve(engine, container, request, client, keys)
    except OSError:
        pass  # the client has gone
    except BaseException:  # the engine stops, most likely
        client.abandon()
        raise
    await client.close()
    return None


async def _serve(engine: Engine, container: Container, request: Request, client: WebSocket, keys: bytes) -> None:
    """Returns when the streams have ended, or the client does not want any more of them."""
    query, tty = request.query, bool(container.config["Tty"])
    stdin, stdout, stderr = compat.websocket_streams(query, request.version)
    past, path = logs.Selection(stdout, stderr, frames=False), engine.containers.log_path(container)
    if not query.bool("stream"):
        if query.bool("logs"):
            async for chunk in logs.read(container, path, past):
                await client.send(chunk)
        return
    stdin = stdin and container.config["OpenStdin"]
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    attachment = Attachment(
        theirs.detach(), stdin=stdin, stdout=stdout, stderr=stderr, raw=True, detach_keys=keys if tty else b""
    )
    with ours:
        if query.bool("logs"):
            from coved.containers.logs.past import Past
            from coved.containers.replay import attach_after

            await attach_after(engine.containers, container, attachment, Past(container, path, past), client.send)
        else:
            await engine.containers.attach(container, attachment)
        await _bridge(client, ours, stdin, last_words=stdin and container.config["StdinOnce"])


async def _bridge(client: WebSocket, ours: socket.socket, stdin: bool, *, last_words: bool) -> None:
    """Args: last_words: the client's Close ends the process's input, and what the process says then still goes out."""
    loop = asyncio.get_running_loop()

    async def outwards() -> None:
        while data := await loop.sock_recv(ours, _CHUNK):
            await client.send(data)

    async def inwards() -> None:
        wanted = stdin
        async for data in client.receive():
            if wanted:
                try:
                    async with asyncio.timeout(None) as patience:
                        with client.on_hang_up(lambda: patience.reschedule(loop.time() + INPUT_LEFT_S)):
                            await loop.sock_sendall(ours, data)
                except TimeoutError:
                    return  # the client has gone, and the process takes none of what it left
                except OSError:
                    wanted = False  # nobody reads it any more; the other direction hears of the end
        if last_words and client.there:
            ours.shutdown(socket.SHUT_WR)
            await client.wait_gone()

    tasks = [loop.create_task(outwards()), loop.create_task(inwards())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
