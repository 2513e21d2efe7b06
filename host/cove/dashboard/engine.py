"""Connections to the machine's engine, which asking for one never starts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import h11

from cove.agent import unattended
from cove.agent.threads import abandonable
from cove.dashboard.http import CHUNK
from cove.dashboard.refusal import Refused
from cove.errors import CoveError
from cove.local.sockets import connect
from cove.machine.paths import MachinePaths

CONNECT_S = 5.0
SHORT_S = 30.0
"""For a question whose answer does not depend on what containers do."""
MAX_HEAD = 64 << 10
MAX_ANSWER = 1 << 20
_HINTS = {
    "stopped": "start it here, or with: cove machine start",
    "suspended": "wake it here, or with: cove machine start",
    "starting": "it takes a moment",
    "suspending": "it takes a moment",
}


class Engine:
    """The way to it. Its connections are kept in mind, to be ended when the machine is to be suspended."""

    def __init__(self, paths: MachinePaths) -> None:
        self._paths = paths
        self._open: set[Exchange] = set()
        self._shut = False
        self._reaching = 0
        self._reached = threading.Condition()
        """Notified when a thread that connects has done so."""

    @contextlib.contextmanager
    def shut(self) -> Iterator[None]:
        """As long as the block lasts there are no connections: those of now are ended; one that is just being made, see `wait_reached`."""
        with self._reached:
            self._shut = True
        try:
            for each in [*self._open]:
                each.abort()
            yield
        finally:
            self._shut = False

    def wait_reached(self) -> None:
        """Until nobody connects any more, while it is shut: who comes late, in the midst of a suspension, wakes the machine. Blocks."""
        with self._reached:
            self._reached.wait_for(lambda: not self._reaching, CONNECT_S)

    def _reach(self) -> socket.socket | None:
        """In a thread; None when it is shut. Raises `OSError`, `CoveError`."""
        with self._reached:
            if self._shut:
                return None
            self._reaching += 1
        try:
            return connect(self._paths.docker_socket, CONNECT_S)
        finally:
            with self._reached:
                self._reaching -= 1
                self._reached.notify_all()

    async def connect(self) -> Exchange:
        """Raises `Refused` when the machine does not run."""
        if (found := self._state()) != "running":
            raise self._is(found)
        try:
            sock = await abandonable(self._reach)
        except (OSError, CoveError) as error:
            raise Refused(
                503, f"the engine of machine {self._paths.name} cannot be reached: {error}", "see what is wrong with: cove diagnose",
                machine="running",
            ) from None  # fmt: skip
        if sock is None or self._shut:  # meanwhile
            if sock is not None:
                sock.close()
            raise self._is("suspending")
        made = Exchange(sock, self._open.discard)
        self._open.add(made)
        return made

    def _state(self) -> str:
        return "suspending" if self._shut else unattended.state(self._paths)

    def _is(self, found: str) -> Refused:
        return Refused(503, f"the machine {self._paths.name} is {found}", _HINTS[found], machine=found)

    async def ask(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        """A short answer, whole. Raises `Refused`."""
        try:
            async with asyncio.timeout(SHORT_S):
                exchange = await self.connect()
                try:
                    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
                    await exchange.ask(method, target, headers)
                    await exchange.send(body)
                    await exchange.end()
                    head = await exchange.head()
                    data = b""
                    async for part in exchange.body():
                        data += part
                        if len(data) > MAX_ANSWER:
                            raise Refused(502, "the engine's answer is too long")
                    return head.status_code, data
                finally:
                    exchange.close()
        except TimeoutError:
            raise Refused(504, "the engine does not answer") from None
        except (OSError, h11.RemoteProtocolError) as error:
            raise Refused(502, f"the engine ended the connection: {error}") from None


class Exchange:
    """One request to the engine, on a connection of its own. All raise `OSError` and `h11.RemoteProtocolError`.

    It is no stream of asyncio's: after a write that failed, one of those gives nothing any more of what the engine has said before it
    closed the connection, such as why it takes no body.
    """

    def __init__(self, sock: socket.socket, ended: Callable[[Exchange], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)

    async def ask(self, method: str, target: str, headers: Iterable[tuple[str, str]]) -> None:
        head = h11.Request(method=method, target=target, headers=[("Host", "docker"), *headers])
        await self.write(self._h11.send(head))

    async def send(self, data: bytes) -> None:
        if data:
            await self.write(self._h11.send(h11.Data(data)))

    async def end(self) -> None:
        await self.write(self._h11.send(h11.EndOfMessage()))

    async def head(self) -> h11.Response | h11.InformationalResponse:
        """The answer's; 101 is one, other 1xx are not."""
        while True:
            event = await self._event()
            if isinstance(event, h11.Response) or (
                isinstance(event, h11.InformationalResponse) and event.status_code == 101
            ):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise ConnectionResetError("the engine ended the connection")

    async def body(self) -> Any:
        while isinstance(event := await self._event(), h11.Data):
            yield bytes(event.data)

    @property
    def early(self) -> bytes:
        """What came behind the head of an answer with which HTTP ended."""
        return bytes(self._h11.trailing_data[0])

    async def read(self) -> bytes:
        return await self._loop.sock_recv(self._sock, CHUNK)

    async def write(self, data: bytes | None) -> None:
        if data:
            await self._loop.sock_sendall(self._sock, data)

    def abort(self) -> None:
        """End the connection at once, whoever reads or writes."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """For its owner, when nobody reads or writes any more: the engine ends what it does for it."""
        self.abort()
        self._sock.close()
        self._ended(self)

    async def _event(self) -> Any:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self.read())
        return event
