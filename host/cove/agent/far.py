"""A machine whose engine runs on another computer: the connection there, which breaks and is made again. What runs there goes on meanwhile.

Nothing is asked again and again: the kernel tells of a connection that has broken, and after some tries, which become rarer, the next
one waits for a client, for this computer's network to change, or for its clock to jump, as it does when it wakes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from cove.agent.link import Link
from cove.agent.network import NetworkChanges
from cove.agent.place import Door, Place
from cove.agent.threads import abandonable
from cove.errors import AgentError, CoveError, RemoteError
from cove.machine import remote as remotes
from cove.machine.files import write_whole
from cove.machine.paths import MachinePaths
from cove.machine.remote import Remote
from cove.progress import REACHABLE, Event, Report, ignore
from cove.remote import connection as connections
from cove.remote.connection import Connection
from cove.transport.base import Stream

log = logging.getLogger(__name__)

TRIES_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Before each try by itself, after the connection has broken."""
REACH_S = 90.0
"""The longest that a client waits for a connection that is being made."""
ASK_S = 5.0
"""In which a host answers whose connection may have broken."""


class FarDoor:
    def __init__(self, far: Far) -> None:
        self._far = far
        self._loop = asyncio.get_running_loop()

    def open(self) -> Stream:
        self._reach()
        try:
            return self._far.open_engine()
        except CoveError:
            if self._far.connection is not None:
                raise
        self._reach()  # it had broken, and nobody knew
        return self._far.open_engine()

    def _reach(self) -> None:
        waiting = asyncio.run_coroutine_threadsafe(self._far.reach(), self._loop)
        try:
            waiting.result(REACH_S)
        except TimeoutError:
            waiting.cancel()
            raise self._far.lost_error() from None

    def close(self) -> None:
        pass  # `Far.close` ends who waits


class Far(Place):
    """`_take` and `_drop` are what the kinds of engines differ in."""

    adopted = True
    can_be_suspended = False
    _ends_there: ClassVar[bool]
    """Whether a stop ends the engine there, and with it the containers."""

    def __init__(self, paths: MachinePaths, remote: Remote) -> None:
        self._paths = paths
        self.remote = remote
        self.link: Link | None = None
        self._loop = asyncio.get_running_loop()
        self.connection: Connection | None = None
        self._door: Door | None = None
        self._ended = asyncio.Event()
        self._closed = False
        self._lost_at = 0.0
        self._why = ""
        """Why there is no connection."""
        self._connected_at = 0.0
        self._next: asyncio.Future[None] = self._loop.create_future()
        """What comes of the try that is under way, or of the next one."""
        self._trying = False
        self._wake = asyncio.Event()
        self._coming_back: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._network = NetworkChanges(self._network_changed)
        self._told: Callable[[], None] = lambda: None

    # -- what the kinds differ in

    @abstractmethod
    async def _take(self, connection: Connection, report: Report) -> None:
        """Make use of a new connection: return when the engine answers. Raises `CoveError`."""

    @abstractmethod
    async def _drop(self) -> None:
        """The connection is gone."""

    @abstractmethod
    def open_engine(self) -> Stream:
        """For threads. Raises `TransportError`."""

    async def _stop_engine(self, connection: Connection, report: Report) -> None:
        """Of one that `_ends_there`. Raises `CoveError`."""

    @abstractmethod
    def _shown(self) -> dict[str, Any]:
        """Its part of `status`."""

    # -- the connection

    async def _connect(self, report: Report = ignore) -> None:
        """Raises `CoveError`; whoever waits for it is told."""
        self._trying = True
        try:
            self.remote = remotes.load(self._paths) or self.remote  # another key may have been pinned
            made = await _connected(self.remote)
            made.watch(lambda: self._from_thread(made))
            try:
                report(Event(REACHABLE, "the host can be reached"))
                await self._take(made, report)
                if self._closed:
                    raise AgentError(f"the machine {self._paths.name} is being stopped")
                if not made.is_active():
                    raise RemoteError(f"the connection to {self.remote.address} has broken again")
            except BaseException:
                await asyncio.to_thread(made.close)
                await self._drop()
                raise
        except CoveError as error:
            self._why = str(error)
            self._settle(error)
            raise
        except BaseException as error:
            self._settle(AgentError(f"{self.remote.address}: {str(error) or type(error).__name__}"))
            raise
        self.connection, self._lost_at, self._why = made, 0.0, ""
        self._connected_at = time.time()
        self._settle(None)
        self._told()

    def _settle(self, error: CoveError | None) -> None:
        self._trying = False
        if not self._next.done():
            if error is None:
                self._next.set_result(None)
            else:
                self._next.set_exception(error)
                self._next.exception()  # there may be nobody who waits
        self._next = self._loop.create_future()

    def _from_thread(self, connection: Connection) -> None:
        with contextlib.suppress(RuntimeError):  # the agent has ended
            self._loop.call_soon_threadsafe(self._lose, connection, "the connection broke")

    def _lose(self, connection: Connection, why: str) -> None:
        if self.connection is not connection or self._closed:
            return
        log.warning("%s: %s", self.remote.address, why)
        self.connection, self._lost_at, self._why = None, time.time(), why
        self._wake.clear()
        self._coming_back = self._loop.create_task(self._come_back(connection))
        self._told()

    async def _come_back(self, before: Connection) -> None:
        await asyncio.to_thread(before.close)
        await self._drop()
        pauses = [*TRIES_S]
        while not self._closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pauses.pop(0) if pauses else None)
            self._wake.clear()
            try:
                await self._connect()
            except CoveError as error:
                log.info("not yet: %s", error)
                self._told()
                continue
            except Exception as error:  # of whatever kind: the next client is to have a try
                log.exception("%s cannot be taken back", self.remote.address)
                self._why = str(error) or type(error).__name__
                continue
            log.info("%s is back", self.remote.address)
            return

    def nudge(self) -> None:
        """It may be worth a try now."""
        self._wake.set()

    def _network_changed(self) -> None:
        self.nudge()
        self._ask()

    def _ask(self) -> None:
        """Whether a connection that may have broken has: the kernel takes its time to find out."""
        if self.connection is not None and (self._asking is None or self._asking.done()):
            self._asking = self._loop.create_task(self._asked(self.connection))

    async def _asked(self, connection: Connection) -> None:
        if not await asyncio.to_thread(connection.answers, ASK_S):
            self._lose(connection, f"no answer within {ASK_S:.0f} s after this computer's network or clock has changed")

    async def reach(self) -> None:
        """Return when there is a connection; a whole try is waited for. Raises `CoveError`."""
        tries = 2 if self._trying else 1  # that one may have begun when nothing could come of it
        while self.connection is None:
            if self._closed or not tries:
                raise self.lost_error()
            tries -= 1
            outcome = self._next
            self.nudge()
            with contextlib.suppress(CoveError):
                await asyncio.shield(outcome)

    def lost_error(self) -> CoveError:
        since = time.strftime("%H:%M:%S", time.localtime(self._lost_at)) if self._lost_at else "the start"
        return RemoteError(
            f"the connection to {self.remote.address} is lost since {since}: {self._why or 'it was ended'}",
            "what runs there goes on; each command tries again",
        )

    # -- Place

    @property
    def door(self) -> Door | None:
        return self._door

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    @property
    def outlived_its_policy(self) -> bool:
        return False

    async def start(self, report: Report) -> None:
        begin = time.monotonic()
        report(Event("connect", f"to {self.remote.address}"))
        try:
            await self._connect(report)
        except BaseException:
            await self.close()
            raise
        write_whole(self._paths.remote_run, json.dumps({"started_at": time.time()}).encode(), 0o600)
        self._door = FarDoor(self)
        report(Event("ready", f"in {time.monotonic() - begin:.1f} s"))

    async def stop(self, report: Report, forced: asyncio.Event | None = None) -> None:
        try:
            if self._ends_there:
                await self.reach()
                assert self.connection is not None
                self._closed = True  # what breaks from now on is meant to
                await self._stop_engine(self.connection, report)
            else:
                report(Event("stop", f"letting go of {self.remote.address}; what runs there goes on"))
        except CoveError as error:
            self._closed = False
            if self.connection is not None and not self.connection.is_active():
                self._lose(self.connection, "the connection broke")
            if forced is None or not forced.is_set():
                raise
            report(Event("stop", f"what runs there goes on: {error}"))
        self._paths.remote_run.unlink(missing_ok=True)
        self._ended.set()

    async def leave(self) -> None:
        self._ended.set()

    async def stop_left(self, report: Report, forced: asyncio.Event | None = None) -> None:
        if not self._paths.remote_run.exists():
            await self.close()
            return
        try:
            if self._ends_there:
                connection = await asyncio.to_thread(connections.connect, self.remote.address, self.remote.host_key)
                try:
                    await self._stop_engine(connection, report)
                finally:
                    await asyncio.to_thread(connection.close)
            self._paths.remote_run.unlink(missing_ok=True)
        finally:
            await self.close()

    async def suspend(
        self, report: Report, idle_since: float | None = None, unless: asyncio.Event | None = None
    ) -> None:  # fmt: skip
        raise CoveError(
            f"the machine {self._paths.name} cannot be suspended: its engine runs on another computer",
            f"to let go of it: cove machine stop {self._paths.name}",
        )

    async def wait_exit(self) -> None:
        await self._ended.wait()

    async def close(self) -> None:
        self._closed = True
        self._network.close()
        for task in (self._coming_back, self._asking):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._settle(self.lost_error())
        connection, self.connection = self.connection, None
        if connection is not None:
            await asyncio.to_thread(connection.close)
        await self._drop()

    async def renew(self) -> None:
        pass

    async def go_on(self) -> None:
        await self.reach()

    def clock_jumped(self) -> None:
        self._network_changed()

    def seen(self) -> None:
        self.nudge()

    def tell_of_trouble(self, changed: Callable[[], None]) -> None:
        self._told = changed

    @property
    def lost_ports(self) -> Mapping[str, str]:
        return {}

    async def retake_ports(self) -> None:
        pass

    def status(self) -> dict[str, Any]:
        shown: dict[str, Any] = self.remote.shown() | self._shown()
        if self.connection is None and self._lost_at:
            shown |= {"state": "unreachable", "lost_at": self._lost_at, "lost_because": self._why}
        elif self.connection is not None:
            shown["connected_at"] = self._connected_at
        return shown


async def _connected(remote: Remote) -> Connection:
    """Raises `CoveError`. Who is cancelled does not wait for it, and what comes of it then is closed."""
    work = asyncio.ensure_future(abandonable(connections.connect, remote.address, remote.host_key))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(_close_late)
        raise


def _close_late(work: asyncio.Future[Connection]) -> None:
    if not work.cancelled() and work.exception() is None:
        work.result().close()


def place(paths: MachinePaths) -> Far:
    """Raises `CoveError`."""
    remote = remotes.load(paths)
    if remote is None:
        raise AgentError(f"the machine {paths.name} is not on another computer")
    if remote.is_ours:
        from cove.agent.far_ours import Ours

        return Ours(paths, remote)
    from cove.agent.far_foreign import Foreign

    return Foreign(paths, remote)
