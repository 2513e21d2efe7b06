"""An engine of another make on another computer, dockerd or podman, used as it is: its socket, and the ports that its containers publish
there. Which these are it tells by its events.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import shlex
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from coved.link.protocol import PortForward

from cove.agent.far import Far
from cove.errors import CoveError, RemoteError, TransportError
from cove.forward.ports import SSH_PORT, PortForwards
from cove.forward.streamed import FarStream, StreamForwards
from cove.local.joined import join
from cove.machine import effective
from cove.machine.paths import MachinePaths
from cove.machine.remote import Remote
from cove.plain import printable
from cove.progress import Event, Report
from cove.remote.connection import Connection
from cove.transport.base import Stream

log = logging.getLogger(__name__)

ANSWER_S, WHOLE_S = 30.0, 90.0
"""In which an engine says something, and in which it has said it all."""
MAX_ANSWER = 16 << 20
MAX_EVENT = 1 << 20
MAX_PORTS = 4096
"""As many as a VM may publish."""
ALTERING = ("start", "die", "restart", "pause", "unpause", "rename", "destroy")
"""Events of containers after which other ports may be published."""
_ANY = {"", "0.0.0.0", "::"}


class Foreign(Far):
    _ends_there = False

    def __init__(self, paths: MachinePaths, remote: Remote) -> None:
        super().__init__(paths, remote)
        self._version: Any = None
        self._forwards = StreamForwards(self._open_port)
        self._ports: PortForwards | None = None
        self._bind_address = ""
        self._wanted: list[PortForward] = []
        self._places: dict[int, str] = {}
        """Where on the host each TCP port answers."""
        self._not_carried: list[str] = []
        self._forbidden = ""
        """Why that host's sshd lets nobody come to a port, when it does not."""
        self._following: socket.socket | None = None
        self._unheard: Connection | None = None
        """Of which the engine's events have ended, perhaps before it came to be used."""
        self._altered = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    def open_engine(self) -> Stream:
        return self._stream(self.connection)

    def _stream(self, connection: Connection | None) -> Stream:
        if connection is None:
            raise TransportError(f"{self.remote.address} is not connected")
        return connection.open_stream(self.remote.socket)

    def _open_port(self, target: str) -> Stream:
        connection, port = self.connection, int(target.partition(":")[2])
        if connection is None:
            raise TransportError(f"{self.remote.address} is not connected")
        try:
            stream = connection.open_port(self._places.get(port, "127.0.0.1"), port)
        except TransportError as error:
            if error.hint:  # nothing listens there: that has none
                self._tell_forbidden(error.hint)
            raise
        self._tell_forbidden("")
        return stream

    def _tell_forbidden(self, why: str) -> None:
        """For threads."""
        if why != self._forbidden:
            self._forbidden = why
            with contextlib.suppress(RuntimeError):  # the agent has ended
                self._loop.call_soon_threadsafe(self._told)

    async def _take(self, connection: Connection, report: Report) -> None:
        report(Event("engine", f"{self.remote.engine} at {self.remote.socket}"))
        if self._ports is None:
            self._bind_address = effective.load(self._paths.settings).bind_address
            self._ports = PortForwards(self._forwards, self._bind_address)
        self._version = await asyncio.to_thread(self._get, connection, "/version")
        # First the events: nothing is to happen between the list and them.
        self._following = await asyncio.to_thread(self._follow, connection)
        self._altered.clear()
        await self._look(connection)
        if self._unheard is connection:
            raise RemoteError(self._no_events())
        self._looking = asyncio.create_task(self._keep_looking(connection))

    def _no_events(self) -> str:
        return f"{self.remote.engine} there has ended its events"

    def _follow(self, connection: Connection) -> socket.socket:
        filters = quote(json.dumps({"type": ["container"], "event": list(ALTERING)}))
        path = f"/events?filters={filters}"
        with self._asked_for(path):
            link = _Http(self._joined(connection))
            with _deadline(link.sock):
                answer = link.begin(path)
        sock = link.sock
        # An engine has nothing to say for days.
        sock.settimeout(None)
        threading.Thread(target=self._hear, args=(connection, answer, sock), name="events", daemon=True).start()
        return sock

    def _hear(self, connection: Connection, answer: http.client.HTTPResponse, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            while answer.readline(MAX_EVENT):
                self._loop.call_soon_threadsafe(self._altered.set)
        sock.close()
        with contextlib.suppress(RuntimeError):  # the agent has ended
            self._loop.call_soon_threadsafe(self._heard_last, connection)

    def _heard_last(self, connection: Connection) -> None:
        self._unheard = connection
        self._lose(connection, self._no_events())

    async def _keep_looking(self, connection: Connection) -> None:
        while True:
            await self._altered.wait()
            self._altered.clear()
            try:
                await self._look(connection)
            except CoveError as error:
                log.warning("the ports are as they were: %s", error)

    async def _look(self, connection: Connection) -> None:
        """Have the ports that are published there be here. Raises `CoveError`."""
        assert self._ports is not None
        self._wanted, self._places, self._not_carried = published(
            await asyncio.to_thread(self._get, connection, "/containers/json")
        )
        await self._ports.sync(self._wanted)
        self._told()

    def _get(self, connection: Connection, path: str) -> Any:
        """Blocks. Raises `CoveError`."""
        with self._asked_for(path), contextlib.closing(_Http(self._joined(connection))) as link, _deadline(link.sock):
            return json.loads(link.begin(path).read(MAX_ANSWER))

    @contextlib.contextmanager
    def _asked_for(self, path: str) -> Iterator[None]:
        """What goes wrong meanwhile is a `RemoteError`."""
        try:
            yield
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
            # What the shell there is to read is one word for the shell here, and its socket's name is what that host has said.
            call = shlex.quote(
                shlex.join(["curl", "-s", "--unix-socket", self.remote.socket, f"http://localhost{path}"])
            )
            raise RemoteError(
                f"{self.remote.engine} of {self.remote.address} does not answer at {self.remote.socket}: {why}",
                f"see whether this works: {self.remote.address.by_ssh} {call}",
            ) from error

    def _joined(self, connection: Connection) -> socket.socket:
        sock = join(FarStream(self._stream(connection)))
        sock.settimeout(ANSWER_S)
        return sock

    async def _drop(self) -> None:
        """Ports stay bound: who connects meanwhile is turned away, and nobody else gets them."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        following, self._following = self._following, None
        if following is not None:
            with contextlib.suppress(OSError):
                following.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        await super().close()
        if self._ports is not None:
            self._ports.close()
        await asyncio.to_thread(self._forwards.close)

    @property
    def lost_ports(self) -> Mapping[str, str]:
        lost = dict(self._ports.lost) if self._ports is not None else {}
        if self._forbidden:  # they are bound here, and lead nowhere
            lost = dict.fromkeys(self._wanted, self._forbidden) | lost
        return {
            f"{port.host_ip or self._bind_address}:{port.host_port}/{port.proto}": why for port, why in lost.items()
        }

    async def retake_ports(self) -> None:
        if self._ports is not None:
            await self._ports.retake()

    def _said(self, key: str) -> str:
        """Of its version, what the other computer says: it is to move no cursor."""
        told = self._version.get(key) if isinstance(self._version, dict) else None
        return printable(told[:100]) if isinstance(told, str) else ""

    def _shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "engine_version": self._said("Version"),
            "api_version": self._said("ApiVersion"),
            "engine_socket": self.remote.socket,
        }
        if self.lost_ports:
            shown["lost_ports"] = dict(self.lost_ports)
        if self._not_carried:
            shown["ports_not_carried"] = self._not_carried
        return shown


@contextlib.contextmanager
def _deadline(sock: socket.socket) -> Iterator[None]:
    """Who says a little now and then is cut short as well."""
    late = threading.Event()

    def end() -> None:
        late.set()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(WHOLE_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, ValueError, http.client.HTTPException) as error:
        if late.is_set():
            raise TimeoutError(f"it has not said all within {WHOLE_S:.0f} s") from error
        raise
    finally:
        timer.cancel()


class _Http:
    """One request on a connection of its own."""

    def __init__(self, sock: socket.socket) -> None:
        self._connection = http.client.HTTPConnection("localhost")
        self._connection.sock = sock
        self.sock = sock

    def begin(self, path: str) -> http.client.HTTPResponse:
        """Raises `OSError`, `ValueError`, `http.client.HTTPException`."""
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        if answer.status != 200:
            raise ValueError(f"{answer.status} {answer.read(1 << 16).decode('utf-8', 'replace')[:500].strip()}")
        return answer

    def close(self) -> None:
        self._connection.close()
        self.sock.close()


def published(listed: Any) -> tuple[list[PortForward], dict[int, str], list[str]]:
    """What `/containers/json` says: ports to have here, where each TCP port answers there, and which cannot be carried. Nothing in it is
    trusted to be what it should be."""
    wanted: dict[int, PortForward] = {}
    places: dict[int, str] = {}
    not_carried: set[str] = set()
    for container in listed if isinstance(listed, list) else ():
        ports = container.get("Ports") if isinstance(container, dict) else None
        for port in ports if isinstance(ports, list) else ():
            number = port.get("PublicPort") if isinstance(port, dict) else None
            if type(number) is not int or not 0 < number < 1 << 16 or len(wanted) >= MAX_PORTS:
                continue
            proto, address = port.get("Type"), port.get("IP") or ""
            if proto != "tcp" or number == SSH_PORT or not isinstance(address, str):
                not_carried.add(f"{number}/{proto if proto in ('udp', 'sctp', 'tcp') else '?'}")
                continue
            wanted[number] = PortForward("tcp", number, "", number)
            if number not in places or address in _ANY:
                places[number] = "127.0.0.1" if address in _ANY else address
    return [*wanted.values()], places, sorted(not_carried)
