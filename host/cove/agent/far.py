"""A machine whose engine runs on another computer: the connection there, which breaks and is made again. What runs there goes on meanwhile.

Nothing is asked again and again: the kernel tells of a connection that has broken, and after some tries, which become rarer, the next
one waits for a client, for this computer's network to change, or for its clock to jump, as it does when it wakes; with the latter two the
tries begin anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, TypeVar

from cove.agent.link import Link
from cove.agent.network_changes import NetworkChanges
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

T = TypeVar("T")
TRIES_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Before each try by itself, after the connection has broken."""
REACH_S = 90.0
"""The longest that a client waits for a connection that is being made."""
ASK_S = 5.0
"""In which a host answers whose connection may have broken."""
CONNECTED_S, TAKEN_S, STOPPED_S = 300.0, 3000.0, 300.0
"""The longest that a connection takes, when somebody has to touch a key for it; and what is done by it: an engine may have to be brought
over a slow line; and a stop."""
FORCED_S = 20.0
"""The longest that a host is waited for when the machine's data are to go, or it is to be let go of."""


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

    adopted = False  # a start that is given up ends nothing there
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
        self._why: CoveError | None = None
        """Why there is no connection."""
        self._connected_at = 0.0
        self._next: asyncio.Future[None] = self._loop.create_future()
        """What comes of the try that is under way, or of the next one."""
        self._trying = False
        self._wake = asyncio.Event()
        self._anew = False
        """The tries are to begin anew."""
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

    async def _stop_engine(self, connection: Connection, report: Report, *, hurried: bool) -> None:
        """Of one that `_ends_there`; ``hurried``: its data are to go. Raises `CoveError`."""

    @abstractmethod
    def _shown(self) -> dict[str, Any]:
        """Its part of `status`."""

    # -- the connection

    async def _connect(self, report: Report = ignore) -> None:
        """Raises `CoveError`; whoever waits for it is told."""
        self._trying = True
        try:
            self.remote = remotes.load(self._paths) or self.remote  # another key may have been pinned
            made = await self._connected()
            made.watch(lambda: self._from_thread(made))
            try:
                report(Event(REACHABLE, "the host can be reached"))
                await _within(TAKEN_S, self._take(made, report), f"the engine on {self.remote.address} did not answer")
                if self._closed:
                    raise AgentError(f"the machine {self._paths.name} is being stopped")
                if not made.is_active():
                    raise RemoteError(f"the connection to {self.remote.address} has broken again")
            except BaseException:
                with contextlib.suppress(Exception):  # the first failure is the one that is told
                    await asyncio.to_thread(made.close)
                await self._drop()
                raise
        except CoveError as error:
            self._why = error
            self._settle(error)
            raise
        except asyncio.CancelledError:  # which says nothing of that host
            self._settle(AgentError(f"the try to reach {self.remote.address} was given up"))
            raise
        except BaseException as error:
            self._why = AgentError(
                f"{self.remote.address}: {str(error) or type(error).__name__}",
                f"the agent's log is {self._paths.agent_log}",
            )
            self._settle(self._why)
            raise
        self.connection, self._lost_at, self._why = made, 0.0, None
        self._connected_at = time.time()
        self._settle(None)
        self._told()

    async def _connected(self) -> Connection:
        """Raises `CoveError`."""
        return await _within(CONNECTED_S, _connected(self.remote), f"{self.remote.address} did not answer")

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
        self.connection, self._lost_at, self._why = None, time.time(), RemoteError(why)
        self._wake.clear()
        self._anew = False
        self._begin_to_come_back(connection)
        self._told()

    def _begin_to_come_back(self, before: Connection | None) -> None:
        self._coming_back = self._loop.create_task(self._come_back(before))
        self._coming_back.add_done_callback(_log_failure)

    async def _come_back(self, before: Connection | None) -> None:
        pauses = [*TRIES_S]
        while not self._closed:
            try:
                if before is not None:
                    broken, before = before, None
                    await asyncio.to_thread(broken.close)
                    await self._drop()
                await self._pause(pauses)
                await self._connect()
            except CoveError as error:
                log.info("not yet: %s", error)
                self._told()
            except Exception:  # of whatever kind: the next client is to have a try
                log.exception("%s cannot be taken back", self.remote.address)
                self._told()
            else:
                log.info("%s is back", self.remote.address)
                return

    async def _pause(self, pauses: list[float]) -> None:
        """Return when the next try is due. Who wants one now takes none of those away."""
        try:
            await asyncio.wait_for(self._wake.wait(), pauses[0] if pauses else None)
        except TimeoutError:
            del pauses[0]
        self._wake.clear()
        if self._anew:
            self._anew = False
            pauses[:] = TRIES_S[1:]

    async def _end_coming_back(self) -> None:
        task, self._coming_back = self._coming_back, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def nudge(self) -> None:
        """It may be worth a try now."""
        self._wake.set()

    def _network_changed(self) -> None:
        self._anew = self.connection is None
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
        until = self._loop.time() + REACH_S
        while self.connection is None:
            if self._closed or not tries:
                raise self.lost_error()
            tries -= 1
            outcome = self._next
            self.nudge()
            with contextlib.suppress(CoveError, TimeoutError):
                await asyncio.wait_for(asyncio.shield(outcome), max(0.0, until - self._loop.time()))

    def lost_error(self) -> CoveError:
        since = f" since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self._lost_at))}" if self._lost_at else ""
        hint = self._why.hint if self._why is not None else ""
        goes_on = "each command tries again; what runs there goes on, unless that computer was restarted"
        return RemoteError(
            f"the connection to {self.remote.address} is lost{since}: {self._why or 'it was ended'}",
            "\n".join(filter(None, (hint, goes_on))),
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
        self._note_run()
        self._door = FarDoor(self)
        report(Event("ready", f"in {time.monotonic() - begin:.1f} s"))

    def _note_run(self) -> None:
        """From here on a stop has something to end there, whatever comes of the start."""
        write_whole(self._paths.remote_run, json.dumps({"started_at": time.time()}).encode(), 0o600)

    async def stop(self, report: Report, forced: asyncio.Event | None = None) -> None:
        self._closed = True  # what breaks from now on is meant to
        await self._end_coming_back()
        try:
            await self._end_run(report, forced)
        except BaseException:
            self._closed = False
            if self.connection is None:
                self._begin_to_come_back(None)
            elif not self.connection.is_active():
                self._lose(self.connection, "the connection broke")
            raise
        self._ended.set()

    async def _end_run(self, report: Report, forced: asyncio.Event | None) -> None:
        """Raises `CoveError`; when it is ``forced`` it is let go of then, and goes on."""
        try:
            if self._ends_there:
                await self._end_there(report, forced)
            else:
                report(Event("stop", f"letting go of {self.remote.address}; what runs there goes on"))
        except CoveError as error:
            if forced is None or not forced.is_set():
                raise
            report(Event("stop", f"what runs there goes on: {error}"))
        else:
            self._paths.remote_run.unlink(missing_ok=True)

    async def _end_there(self, report: Report, forced: asyncio.Event | None) -> None:
        """By the connection that there is, or by one for this alone: an engine need not answer, nor be brought there, to be ended."""
        self.remote = remotes.load(self._paths) or self.remote
        connection = self.connection
        mine = connection is None or not connection.is_active()
        if connection is None or mine:
            connection = await _hurried(self._connected(), forced, f"{self.remote.address} did not answer")
        try:
            stopping = self._stop_engine(connection, report, hurried=forced is not None and forced.is_set())
            words = f"the engine on {self.remote.address} did not end"
            await _hurried(_within(STOPPED_S, stopping, words), forced, words)
        finally:
            if mine:
                await asyncio.to_thread(connection.close)

    async def leave(self) -> None:
        self._ended.set()

    async def stop_left(self, report: Report, forced: asyncio.Event | None = None) -> None:
        try:
            if self._paths.remote_run.exists():
                await self._end_run(report, forced)
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
        super().clock_jumped()

    def seen(self) -> None:
        self.nudge()
        super().seen()

    def tell_of_trouble(self, changed: Callable[[], None]) -> None:
        self._told = changed

    def status(self) -> dict[str, Any]:
        shown: dict[str, Any] = self.remote.shown() | self._shown()
        if self.connection is None and self._lost_at:
            shown |= {"state": "unreachable", "lost_at": self._lost_at, "lost_because": str(self._why or "")}
            if self._why is not None and self._why.hint:
                shown["lost_hint"] = self._why.hint
        elif self.connection is not None:
            shown["connected_at"] = self._connected_at
        return shown


async def _within(seconds: float, work: Coroutine[Any, Any, T], failure: str) -> T:
    """Raises `RemoteError` when it has not ended by then; it is cancelled."""
    try:
        async with asyncio.timeout(seconds) as limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        raise RemoteError(f"{failure} within {seconds:.0f} s") from None


async def _hurried(work: Coroutine[Any, Any, T], forced: asyncio.Event | None, failure: str) -> T:
    """Once `forced` is set, it has `FORCED_S` to end. Raises `RemoteError` when it has not; it is cancelled."""
    if forced is None:
        return await work
    task = asyncio.ensure_future(work)
    hurry = asyncio.ensure_future(forced.wait())
    try:
        await asyncio.wait((task, hurry), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((task,), timeout=None if not hurry.done() else FORCED_S)
        if task.done():
            return task.result()
        raise RemoteError(f"{failure} within {FORCED_S:.0f} s")
    finally:
        hurry.cancel()
        task.cancel()


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("nobody tries any more to come back: %r", error)


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
