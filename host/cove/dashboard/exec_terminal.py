"""A terminal: an exec that was made with a TTY, behind a WebSocket. Bytes go both ways in binary frames, {"resize": [columns, rows]}
in text."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import Any

import h11

from cove.dashboard.engine import Engine, Exchange
from cove.dashboard.http import CHUNK, Gone, Http
from cove.dashboard.refusal import Refused
from cove.dashboard.websocket import WebSocket

MAX_CELLS = 2000
HANG_UP = b"\x03\x04"
"""Ctrl-C and Ctrl-D. An exec lives on without its client, and Docker's API can neither end it nor send it a signal."""
HANG_UP_S = 10.0
HANG_UP_AGAIN_S = 0.2
_ID = re.compile(r"[0-9a-f]{64}")


async def answer(http: Http, exec_id: str, engine: Engine) -> None:
    """Start the exec and carry its terminal. What the page cannot be given is told in a text frame: of a WebSocket that does not come
    about a browser tells it nothing. Raises `Refused` when that is not asked for, `Gone`.
    """
    terminal = WebSocket(http.connection)
    await terminal.accept(http.request)
    try:
        if not _ID.fullmatch(exec_id):
            raise Refused(404, "there is no such exec")
        await _carry(terminal, exec_id, engine, _size_asked(http.request.query))
    except Refused as refused:
        await terminal.send(json.dumps({"error": refused.message, "hint": refused.hint}))
    await terminal.close()


async def _carry(terminal: WebSocket, exec_id: str, engine: Engine, size: tuple[int, int] | None) -> None:
    """Raises `Refused`, `Gone`."""
    exchange = await engine.connect()
    try:
        early = await _started(exchange, exec_id, size)
        typing = asyncio.ensure_future(_typed(terminal, exchange, engine, exec_id))
        showing = asyncio.ensure_future(_shown(terminal, exchange, early))
        try:
            await asyncio.wait((typing, showing), return_when=asyncio.FIRST_COMPLETED)
            ended = showing.done() and not isinstance(showing.exception(), Gone)
        finally:
            for each in (typing, showing):
                each.cancel()
            await asyncio.gather(typing, showing, return_exceptions=True)
        if not ended:
            await _hang_up(exchange)
    except (OSError, h11.RemoteProtocolError) as error:
        raise Refused(502, f"the engine ended the connection: {error}") from None
    finally:
        exchange.close()


async def _started(exchange: Exchange, exec_id: str, size: tuple[int, int] | None) -> bytes:
    """What the engine has said already. Raises `Refused`, `OSError`, `h11.RemoteProtocolError`."""
    wish: dict[str, Any] = {"Detach": False, "Tty": True}
    if size is not None:
        wish["ConsoleSize"] = [size[1], size[0]]
    body = json.dumps(wish).encode()
    headers = [
        ("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "Upgrade"), ("Upgrade", "tcp"),
    ]  # fmt: skip
    await exchange.ask("POST", f"/exec/{exec_id}/start", headers)
    await exchange.send(body)
    await exchange.end()
    head = await exchange.head()
    if head.status_code == 101:
        return exchange.early
    said = b""
    async for part in exchange.body():
        said += part
        if len(said) > CHUNK:
            break
    try:
        message = str(json.loads(said)["message"])
    except (ValueError, KeyError, TypeError):
        message = f"the engine answered {head.status_code}"
    raise Refused(head.status_code if head.status_code >= 400 else 502, message)


async def _typed(terminal: WebSocket, exchange: Exchange, engine: Engine, exec_id: str) -> None:
    sizes = _Sizes(engine, exec_id)
    resizing = asyncio.ensure_future(sizes.serve())
    try:
        async for said in terminal.receive():
            if isinstance(said, bytes):
                await exchange.write(said)
            elif (size := _size_told(said)) is not None:
                sizes.want(size)
    finally:
        resizing.cancel()
        await asyncio.gather(resizing, return_exceptions=True)


class _Sizes:
    """New sizes of a terminal, told to the engine one after the other, so that the last one stays; nobody waits for its answer."""

    def __init__(self, engine: Engine, exec_id: str) -> None:
        self._engine = engine
        self._exec_id = exec_id
        self._newest: tuple[int, int] | None = None
        self._wanted = asyncio.Event()

    def want(self, size: tuple[int, int]) -> None:
        self._newest = size
        self._wanted.set()

    async def serve(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._newest is not None:
                columns, rows = self._newest
                with contextlib.suppress(Refused):  # it has just ended
                    await self._engine.ask("POST", f"/exec/{self._exec_id}/resize?w={columns}&h={rows}")


async def _hang_up(exchange: Exchange) -> None:
    """Have a shell end whose terminal was closed, as far as that can be done from here. What is typed while a command is ending may be
    lost: it is said again."""

    async def insist() -> None:
        while True:
            await exchange.write(HANG_UP)
            await asyncio.sleep(HANG_UP_AGAIN_S)

    insisting = asyncio.ensure_future(insist())
    try:
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(HANG_UP_S):
                while await exchange.read():
                    pass
    finally:
        insisting.cancel()
        await asyncio.gather(insisting, return_exceptions=True)


async def _shown(terminal: WebSocket, exchange: Exchange, early: bytes) -> None:
    data = early
    while True:
        if data:
            await terminal.send(data)
        data = await exchange.read()
        if not data:
            return


def _size_asked(query: dict[str, str]) -> tuple[int, int] | None:
    return _size(query["cols"], query["rows"]) if "cols" in query and "rows" in query else None


def _size_told(text: str) -> tuple[int, int] | None:
    try:
        columns, rows = json.loads(text)["resize"]
    except (ValueError, KeyError, TypeError):
        return None
    return _size(columns, rows)


def _size(columns: Any, rows: Any) -> tuple[int, int] | None:
    """None for what no terminal has."""
    try:
        size = int(columns), int(rows)
    except (ValueError, TypeError):
        return None
    return size if all(0 < each <= MAX_CELLS for each in size) else None
