"""The folders of a VM that runs: plugged in, told to the guest, watched over, and taken away before the VM is saved."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from coved.link.protocol import Shared, SharedFolder, Shares

from cove.errors import CoveError, DriverError
from cove.machine import usual_socket
from cove.machine.paths import MachinePaths
from cove.plain import printable
from cove.share import choice, servers
from cove.share import folders as listing
from cove.share.folders import NOT_YET, Folder
from cove.share.servers import Plugs

log = logging.getLogger(__name__)

ANSWER_S = 40.0
"""Seconds in which the guest mounts or unmounts folders; devices may take a third of it each to come."""
MOUNTED_AT = "/run/cove/host"
"""In the guest (`coved.shares.shares`)."""
MAX_ENDS, ENDS_S = 3, 60.0
"""A server that ends more often than that in so many seconds is not started again."""
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
"""A container's (dockerd's `daemon/names`)."""
Send = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Carried:
    """A folder that the guest has from Cove's own server: where it is mounted there, where it is here, and where the server takes
    orders."""

    guest: str
    host: Path
    control: Path
    token: str


class Folders:
    """Those of one run of a VM. All happens in the agent's event loop.

    Args:
        carrier: "virtiofs", "9p" or "agent".
        token: by which Cove's own servers know the engine; the same for as long as they live.
        anew: what the guest may still have mounted is of servers that are gone.
    """

    def __init__(
        self,
        paths: MachinePaths,
        driver: Plugs,
        folders: Sequence[Folder],
        carrier: str,
        token: str = "",
        *,
        anew: bool = False,
    ) -> None:
        self._token = token
        self._outdated = {folder.tag for folder in folders} if anew else set()
        self._paths = paths
        self._driver = driver
        self._folders = tuple(folders)
        self._carrier = carrier
        self._plugging: asyncio.Task[None] | None = None
        self._plug_turn = asyncio.Lock()
        self._trouble = ""
        """Why none can be plugged in."""
        self._broken: dict[str, str] = {}
        """What is wrong with devices, by tag."""
        self._unmounted: dict[str, str] = {}
        """What the guest said at last, by tag."""
        self._mounted: set[str] = set()
        self._away = False
        self._guards: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, list[float]] = {}
        self._next = 1
        self._answers: dict[int, asyncio.Future[Shared]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.send: Send | None = None
        """The link's, while there is one."""

    # -- devices

    def plug(self) -> None:
        """Give the VM what it does not have yet, while it goes on; `wanted_by_guest` waits for that."""
        self._away = False
        self._driver.on_over(partial(_tell_soon, asyncio.get_running_loop(), self.wanted_by_guest))
        self._plugging = self._begin(self._plug())

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _plug(self) -> None:
        async with self._plug_turn:
            await self._plug_missing()

    async def _plug_missing(self) -> None:
        if not self._folders:
            return
        try:
            there = await self._driver.plugged()
        except CoveError as error:
            self._trouble = str(error)
            return
        self._trouble = ""
        for folder in self._folders:
            if folder.tag not in there:
                try:
                    await self._plug_one(folder)
                    self._broken.pop(folder.tag, None)
                except (CoveError, OSError) as error:
                    log.error("%s cannot be shared: %s", folder.path, error)
                    self._broken[folder.tag] = str(error)
                    continue
            self._guard(folder)

    async def _plug_one(self, folder: Folder) -> None:
        carrier = self.carrier(folder)
        if carrier == "9p":
            await self._driver.plug_folder(folder.tag)
            return
        serve = servers.serve_virtiofs if carrier == "virtiofs" else servers.serve_9p
        process = await serve(self._paths, self._driver, folder)
        log.info("%s is served by process %d", folder.path, process.pid)

    def _guard(self, folder: Folder) -> None:
        """See to it that a folder's server runs."""
        if self.carrier(folder) != "9p" and ((task := self._guards.get(folder.tag)) is None or task.done()):
            self._guards[folder.tag] = asyncio.get_running_loop().create_task(self._watch_over(folder))

    async def _watch_over(self, folder: Folder) -> None:
        await servers.ended(self._paths, folder.tag)
        if self._away:
            return
        try:
            await self._driver.plugged()
        except CoveError:
            return  # with QEMU its servers end, and that is as it should be
        log.error("the server of %s has ended; what used it gets errors", folder.path)
        now = time.monotonic()
        ends = [*(one for one in self._ends.get(folder.tag, ()) if now - one < ENDS_S), now]
        self._ends[folder.tag] = ends
        self._mounted.discard(folder.tag)
        self._broken[folder.tag] = f"its server has ended (see {self._paths.folders_log})"
        try:
            with contextlib.suppress(TimeoutError):
                await self._tell(self._sound(), lost=(folder.tag,))
            await self._driver.unplug(folder.tag)
        except CoveError as error:
            log.error("%s cannot be shared anew: %s", folder.path, error)
            return
        if len(ends) > MAX_ENDS:
            log.error("the server of %s ends again and again: it is not started any more", folder.path)
            return
        del self._guards[folder.tag]
        self.plug()
        self.wanted_by_guest()

    def _sound(self) -> list[Folder]:
        return [folder for folder in self._folders if folder.tag not in self._broken and not self._trouble]

    def carrier(self, folder: Folder) -> str:
        """What carries a folder. Virtiofsd in C cannot keep a guest from writing, so read-only ones go by Cove's own server then."""
        return "agent" if self._carrier == "virtiofs" and folder.read_only else self._carrier

    # -- the guest

    def wanted_by_guest(self) -> None:
        """An engine has started, or the agent has: it is told."""
        self._begin(self._tell_all())

    def answered(self, message: Shared) -> None:
        """The guest's words are shown to the user: they are to move no cursor."""
        errors = {tag: printable(words) for tag, words in message.errors.items()}
        message = Shared(message.id, errors, tuple(map(printable, message.in_use)))
        if (answer := self._answers.get(message.id)) is not None and not answer.done():
            answer.set_result(message)

    async def _tell_all(self) -> None:
        if self._plugging is not None:
            await asyncio.wait([self._plugging])
        if self._away:
            return
        with contextlib.suppress(TimeoutError):
            told = self._sound()
            self._outdated |= self._driver.over()
            said = await self._tell(told, lost=tuple(sorted(self._outdated)))
            self._outdated = set()
            self._mounted = {folder.tag for folder in told} - set(said.errors)
            self._unmounted = {tag: f"the machine cannot mount it: {words}" for tag, words in said.errors.items()}

    async def _tell(self, folders: Sequence[Folder], lost: tuple[str, ...] = ()) -> Shared:
        """Raises TimeoutError."""
        number, self._next = self._next, self._next + 1
        shares = tuple(
            SharedFolder(folder.tag, path, folder.read_only, self.carrier(folder), self._token)
            for folder, path in listing.names(folders)
        )
        # The link too, for its folder need not be one that is shared.
        sockets = [self._paths.docker_socket, *([usual_socket.path()] if usual_socket.leads_to(self._paths) else ())]
        message = Shares(
            number, shares, listing.is_windows(), listing.fold_case(), lost, tuple(str(one) for one in sockets)
        )
        answer: asyncio.Future[Shared] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            if self.send is not None:
                self.send(message.to_json())
            async with asyncio.timeout(ANSWER_S):
                return await answer
        finally:
            del self._answers[number]

    def carried(self) -> list[Carried]:
        """The folders that the guest has or shall have from Cove's own server, for who tells it of changes in them."""
        return [
            Carried(f"{MOUNTED_AT}/{folder.tag}", folder.path, servers.control(self._paths, folder.tag), self._token)
            for folder in self._folders
            if self.carrier(folder) == "agent"
        ]

    # -- suspension

    @contextlib.asynccontextmanager
    async def away(self, unless: asyncio.Event | None = None) -> AsyncIterator[None]:
        """While the VM is saved, and ended after that. When either fails the VM gets its folders back. Raises `CoveError`.

        ``unless``: it is given up when this is set before they are gone.
        """
        try:
            await self._take_away(unless or asyncio.Event())
            yield
        except BaseException:
            self.plug()
            self.wanted_by_guest()
            raise

    async def _take_away(self, unless: asyncio.Event) -> None:
        if not self._folders or not await self._driver.plugged():
            return
        self._away = True
        try:
            said = await _unless(unless, self._tell(()))
        except TimeoutError:
            raise CoveError(
                f"the machine {self._paths.name} does not let go of its folders", self._stop_instead()
            ) from None
        if said.in_use:
            raise CoveError(
                f"the machine {self._paths.name} cannot be suspended while containers use folders of this computer:"
                f" {', '.join(said.in_use)}",
                f"stop them first: docker stop {' '.join(filter(NAME.fullmatch, said.in_use[:5]))}",
            )
        if said.errors:
            raise CoveError(
                f"the machine {self._paths.name} does not let go of its folders: {', '.join(said.errors.values())}",
                self._stop_instead(),
            )
        for tag in sorted(await self._driver.plugged()):
            if (
                unless.is_set()
            ):  # only between two: a device that the guest was asked to let go of may go at any time after that
                raise _given_up()
            await self._driver.unplug(tag)
        if held := await self._driver.held_by():
            raise DriverError(f"QEMU cannot save it: {'; '.join(held)}")

    def _stop_instead(self) -> str:
        return f"stop it instead: cove machine stop {self._paths.name}"

    async def close(self) -> None:
        """Let go of it all; the VM keeps its folders."""
        tasks = [*self._tasks, *self._guards.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def status(self) -> list[dict[str, Any]]:
        """For `cove machine status`."""
        return [
            {
                "path": str(folder.path),
                "access": "read-only" if folder.read_only else "read-write",
                "driver": choice.describe(self.carrier(folder)),
                "state": self._state(folder),
            }
            for folder in self._folders
        ]

    def _state(self, folder: Folder) -> str:
        if wrong := self._trouble or self._broken.get(folder.tag) or self._unmounted.get(folder.tag):
            return wrong
        return "shared" if folder.tag in self._mounted else NOT_YET


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, Shared]) -> Shared:
    """What the work comes to, unless the event comes first. Raises `CoveError` then."""
    answer, given_up = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((answer, given_up), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise _given_up()
        return answer.result()
    finally:
        answer.cancel()
        given_up.cancel()


def _tell_soon(loop: asyncio.AbstractEventLoop, tell: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the agent has just ended
        loop.call_soon_threadsafe(tell)


def _given_up() -> CoveError:
    return CoveError("it was given up")


def to_json(folders: Sequence[Folder]) -> list[dict[str, Any]]:
    """For `run.json`: an agent that comes after needs them as they were when the VM was started."""
    return [asdict(folder) | {"path": str(folder.path), "named": str(folder.named)} for folder in folders]


def from_json(kept: Sequence[dict[str, Any]]) -> list[Folder]:
    return [
        Folder(one["tag"], Path(one["path"]), one["read_only"], Path(one["named"]), tuple(one.get("owner", (0, 0))))
        for one in kept
    ]
