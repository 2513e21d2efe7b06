"""The engine's end of the link: requests to the host, and what the host pushes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from coved import versions
from coved.errors import EngineError
from coved.link.clock import HostsClock
from coved.link.port import EdgePort, read_boot_id
from coved.link.protocol import (
    MAX_PORTS,
    VERSION,
    Activity,
    AskTime,
    Changed,
    Changes,
    FrameDecoder,
    GuestMessage,
    Hello,
    HostMessage,
    Lost,
    News,
    PortForward,
    ProtocolError,
    Publish,
    Ready,
    Reply,
    Shared,
    Shares,
    Shutdown,
    Stopping,
    Sync,
    Time,
    Unpublish,
    WantShares,
    Watch,
    encode,
    parse_host_message,
)
from coved.outside import Outside

if TYPE_CHECKING:
    from coved.link.doorway import Doorway

log = logging.getLogger(__name__)

SEED = Path("/run/cove/seed.json")
"""What PID 1 keeps of the host's seed."""
DOOR = Path("/run/cove/link.sock")
REPLY_TIMEOUT_S = 10.0
POWER_OFF = signal.SIGUSR2
"""Asks PID 1 to power the machine off."""


class LinkError(EngineError):
    """The host did not answer on the link."""


class LinkClient:
    """Construct it, set the hooks, then ``start()`` once the API answers.

    Args:
        path: the virtio-serial port. Where it is not there when the link starts, the host comes to ``door`` instead.
        engine_version: told to the host.
        set_clock: whether this machine's clock follows the host's.
        boot_id: stamp of this boot; by default it is read from the seed.

    Attributes:
        live_ports: asked at every connection for the forwards that the host shall have.
        on_outside: told what the host says of proxies and certificates, at each connection and when it changes.
        watched: asked at every connection for the paths that the host shall watch; none while it is None.
        on_changes: told what happened in them, to be answered with ``changed``.
        on_shares: told the folders that the host's computer shares; gives errors by tag, and names of containers that use what shall go.
            While there is none the host is not asked for any.
        on_lost: told which of them it has not, after each sync, and whenever that changes.
        on_shutdown: told the seconds in which containers shall be stopped; then the machine is powered off.
        power_off: called at the end of a shutdown.
    """

    def __init__(
        self, path: Path, engine_version: str, *, set_clock: bool = True, boot_id: str | None = None, door: Path = DOOR
    ) -> None:
        self._engine_version = engine_version
        self._clock = (
            HostsClock(lambda number: self._port.write(encode(AskTime(number).to_json()))) if set_clock else None
        )
        self._boot_id = boot_id
        self._port: EdgePort | Doorway = EdgePort(path, self._received, self._disconnected)
        self._path, self._door = path, door
        self._decoder = FrameDecoder()
        self._next_id = 1
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._connected = asyncio.Event()
        self._ready = False
        self._activity: Activity | None = None
        self._shutdown: asyncio.Task[None] | None = None
        self.live_ports: Callable[[], Iterable[PortForward]] = tuple
        self.on_outside: Callable[[Outside], None] = lambda _: None
        self.watched: Callable[[], tuple[str, ...]] | None = None
        self.on_changes: Callable[[Changes], None] = lambda changes: self.changed(changes.id)
        self.on_shares: Callable[[Shares], Awaitable[tuple[dict[str, str], list[str]]]] | None = None
        self._sharing: set[asyncio.Task[None]] = set()
        self.on_lost: Callable[[Sequence[PortForward]], None] = lambda ports: None
        self.on_shutdown: Callable[[float], Awaitable[None]] | None = None
        self.power_off: Callable[[], None] = lambda: os.kill(1, POWER_OFF)

    @property
    def has_port(self) -> bool:
        """Whether the hypervisor has a port for the link, and so forwards the host's ports to the machine's address."""
        return self._path.exists()

    @property
    def connected(self) -> bool:
        """Whether the host has said hello on the present connection."""
        return self._connected.is_set()

    async def start(self) -> None:
        """Opens the port; the host may connect now or later, and as often as it likes."""
        if self._boot_id is None:
            self._boot_id = read_boot_id(SEED)
        if not self.has_port:
            from coved.link.doorway import Doorway  # no QEMU is without a port

            self._port = Doorway(self._door, self._received, self._disconnected)
        self._port.open()

    async def close(self) -> None:
        self._disconnected()
        self._port.close()

    async def publish(self, port: PortForward, timeout_s: float = REPLY_TIMEOUT_S, *, keep: bool = False) -> Reply:
        """Asks the host for a forward, and waits for the answer, which may be a refusal.

        Args:
            keep: what another program has is lost (``on_lost`` is told first), and not refused.

        Raises:
            LinkError: no answer within ``timeout_s``, a wait for the host to connect included.
        """
        return await self._request(lambda number: Publish(number, port, keep), timeout_s)

    async def unpublish(self, port: PortForward, timeout_s: float = REPLY_TIMEOUT_S) -> Reply:
        """Takes a forward back; raises LinkError as ``publish`` does."""
        return await self._request(lambda number: Unpublish(number, port), timeout_s)

    def announce_ready(self) -> None:
        """Tells the host that the API answers and all is as it shall be; told again at every connection."""
        self._ready = True
        self._push(self._ready_message())

    def _ready_message(self) -> Ready:
        return Ready(self._boot_id or "", self._engine_version, versions.text(versions.NEWEST))

    def announce_activity(self, level: Literal["busy", "running", "idle"]) -> None:
        """Tells the host whether there is anything to do; told again at every connection."""
        self._activity = Activity(level)
        self._push(self._activity)

    def watch(self, paths: tuple[str, ...]) -> None:
        """Has the host watch exactly these folders and files."""
        self._push(Watch(paths))

    def changed(self, number: int) -> None:
        """What message ``number`` told has been done."""
        self._push(Changed(number))

    def announce_stop(self) -> None:
        """Tells the host that the engine goes down on purpose."""
        self._push(Stopping())

    async def _request(self, message: Callable[[int], Publish | Unpublish], timeout_s: float) -> Reply:
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    await self._connected.wait()
                    # When the host goes away in between, its next connection begins with a sync that knows nothing of
                    # this request, so it is safe to ask again.
                    with contextlib.suppress(ConnectionError):
                        return await self._ask(message)
        except TimeoutError:
            state = "did not answer" if self.connected else "is not connected"
            raise LinkError(
                f"the host {state} within {timeout_s:g} s: is the machine's agent running? (cove machine status)"
            ) from None

    async def _ask(self, message: Callable[[int], Publish | Unpublish | Sync]) -> Reply:
        number = self._next_id
        self._next_id += 1
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._replies[number] = future
        try:
            self._write(encode(message(number).to_json()))
            return await future
        finally:
            del self._replies[number]

    def _push(self, message: GuestMessage) -> None:
        if self.connected:
            self._write(encode(message.to_json()))

    def _write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except ConnectionError as error:
            self._begin_anew(error)  # which fails all that wait for an answer

    def _begin_anew(self, error: Exception) -> None:
        """Ends the connection; the host notices that the port is opened again, and greets."""
        log.warning("link closed: %s", error)
        self._disconnected()
        self._port.reopen()

    def _received(self, data: bytes) -> None:
        try:
            for message in self._decoder.feed(data):
                self._handle(parse_host_message(message))
        except (ProtocolError, ConnectionError) as error:
            self._begin_anew(error)

    def _handle(self, message: HostMessage) -> None:
        match message:
            case Hello():
                self._hello(message)
            case Reply():
                future = self._replies.get(message.id)
                if future is not None and not future.done():
                    future.set_result(message)
            case News():
                self.on_outside(message.outside)
            case Lost():
                self.on_lost(message.ports)
            case Time(unix_ns, None):
                if self._clock is not None:
                    self._clock.told(unix_ns)
            case Time(unix_ns, int(number)):
                if self._clock is not None:
                    self._clock.answered(number, unix_ns)
            case Changes():
                self.on_changes(message)
            case Shares():
                task = asyncio.get_running_loop().create_task(self._share(message))
                self._sharing.add(task)
                task.add_done_callback(self._sharing.discard)
            case Shutdown():
                if self._shutdown is None:
                    self._shutdown = asyncio.get_running_loop().create_task(self._shut_down(message.timeout_s))

    def _hello(self, hello: Hello) -> None:
        if hello.version != VERSION:
            raise ProtocolError(f"the host speaks version {hello.version} of the link, the engine {VERSION}")
        self._fail_requests()  # of an earlier connection whose end went unnoticed
        if self._clock is not None:
            self._clock.greeted(hello.unix_ns, answers=hello.answers_time)
        if hello.outside is not None:
            self.on_outside(hello.outside)  # before anybody is told that the engine is ready
        number = self._next_id
        self._next_id += 1
        live = tuple(self.live_ports())
        if len(live) > MAX_PORTS:
            # A longer list would cost the link. None can come about but by an engine of another age.
            log.error("%d ports are published, the host is told of %d", len(live), MAX_PORTS)
        sync = Sync(number, live[:MAX_PORTS])
        ready = encode(self._ready_message().to_json()) if self._ready else b""
        activity = encode(self._activity.to_json()) if self._activity is not None else b""
        asking = encode(WantShares().to_json()) if self.on_shares is not None else b""
        watch = encode(Watch(self.watched()).to_json()) if self.watched is not None else b""
        self._port.write(ready + encode(sync.to_json()) + activity + asking + watch)
        reply = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        reply.add_done_callback(lambda future: self._synced(number, future))
        self._connected.set()

    def _synced(self, number: int, future: asyncio.Future[Reply]) -> None:
        self._replies.pop(number, None)
        if not future.cancelled() and future.exception() is None and not future.result().ok:
            log.warning("the host could not restore all published ports: %s", future.result().error)

    async def _share(self, message: Shares) -> None:
        assert self.on_shares is not None
        errors, in_use = await self.on_shares(message)
        with contextlib.suppress(ConnectionError):  # the next connection asks anew
            self._port.write(encode(Shared(message.id, errors, tuple(in_use)).to_json()))

    def _disconnected(self) -> None:
        self._connected.clear()
        self._decoder.reset()
        self._fail_requests()

    def _fail_requests(self) -> None:
        for future in list(self._replies.values()):
            if not future.done():
                future.set_exception(ConnectionError("the host closed the link"))

    async def _shut_down(self, timeout_s: float) -> None:
        self.announce_stop()
        if self.on_shutdown is not None:
            try:
                async with asyncio.timeout(timeout_s + 2):
                    await self.on_shutdown(timeout_s)
            except TimeoutError:
                log.warning("containers did not stop within %g s", timeout_s)
            except Exception:  # whatever went wrong there, the host asked for the machine to go down
                log.exception("stopping containers failed")
        self.power_off()
