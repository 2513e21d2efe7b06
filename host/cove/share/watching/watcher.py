"""Tells the guest what happens in the folders that its containers have mounted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath

from coved.link.protocol import Change, Changes

from cove.share.manager import Carried
from cove.share.watching.echoes import Echoes
from cove.share.watching.guest_changes import GuestChanges
from cove.share.watching.pending import Pending, describe
from cove.share.watching.source import Seen, Source, Tell, for_this_system

log = logging.getLogger(__name__)

ANSWER_S = 30.0
"""The guest does some thousand operations for the longest message; one that takes longer has lost the folder."""


@dataclass(eq=False)
class _Watched:
    """One watched folder, or the folder of watched files."""

    guest: str
    host: Path
    shared: Carried
    names: set[str] | None
    """Only these of its entries; None: all, and all below."""
    pending: Pending = field(default_factory=Pending)


class Watcher:
    """For one machine, in the agent's event loop; `send` gives a message to the link."""

    def __init__(
        self,
        carried: Callable[[], list[Carried]],
        send: Callable[[Changes], None],
        source: Callable[[Tell], Source] = for_this_system,
    ) -> None:
        self._carried = carried
        self._send = send
        self._make_source = source
        self._source: Source | None = None
        self._loop = asyncio.get_running_loop()
        self._watched: dict[Path, _Watched] = {}
        self._echoes: dict[Path, Echoes] = {}
        """By shared folder."""
        self._heard: dict[Path, GuestChanges] = {}
        """By the control socket of a server of Cove's own."""
        self._next = 1
        self._answer: tuple[int, asyncio.Future[bool]] | None = None
        self._news = asyncio.Event()
        self._setting = asyncio.Lock()
        self._telling = self._loop.create_task(self._tell_guest())
        self.trouble: dict[str, str] = {}
        """By folder of the guest: why not all of its changes are told."""

    async def watch(self, paths: Iterable[str]) -> None:
        """Watch exactly these folders and files of the guest. What cannot be watched is noted in `trouble`."""
        async with self._setting:
            carried = sorted(self._carried(), key=lambda one: len(one.guest), reverse=True)
            wanted = await asyncio.to_thread(self._wanted, carried, tuple(paths))
            for shared in {one.shared for one in wanted.values()}:
                await self._listen(shared)
            if wanted and self._source is None:
                try:
                    self._source = self._make_source(self._from_source)
                except OSError as error:
                    self._complain("/", f"changes of shared folders cannot be watched: {error.strerror}")
                    return
            source = self._source
            if source is None:
                return
            for host in [host for host in self._watched if host not in wanted]:
                self.trouble.pop(self._watched.pop(host).guest, None)
                await asyncio.to_thread(source.unwatch, host)
            for host, one in wanted.items():
                known = self._watched.get(host)
                if known is not None and (known.names is None) == (one.names is None):
                    known.names = one.names
                    continue
                self._watched[host] = one
                try:
                    await asyncio.to_thread(source.watch, one.shared.host, host, deep=one.names is None)
                except OSError as error:
                    self._complain(
                        one.guest, f"changes in {host} are not seen by containers: {error.strerror or error}"
                    )
                # The guest forgot what it had cached before it asked. What happened in the moment since then nobody has seen; but to
                # have it forget once more would be amid what its containers write by now.
            if left_out := source.unwatched():
                self._complain(
                    "/",
                    f"{left_out} directories of shared folders are not watched, for the system allows no more"
                    " (sysctl fs.inotify.max_user_watches): changes in them are seen late by containers, and make no events",
                )
            else:
                self.trouble.pop("/", None)

    async def _listen(self, one: Carried) -> None:
        """To a server of Cove's own, for what the guest does; it may have been started anew since the last time."""
        echoes = self._echoes.setdefault(one.host, Echoes())
        heard = self._heard.get(one.control)
        if heard is None or not heard.hears:
            self._heard[one.control] = heard = GuestChanges(one.control, one.token, echoes, self._missed)
            await heard.open()

    def _wanted(self, carried: Sequence[Carried], paths: Iterable[str]) -> dict[Path, _Watched]:
        """By folder of this computer; one that lies in another that is watched is left out."""
        found: dict[Path, _Watched] = {}
        for path in paths:
            if (place := _place(carried, path)) is None:
                log.warning("the machine asks for the changes of %.200s, which is not shared with it", path)
                continue
            shared, host = place
            if host.is_dir() and not host.is_symlink():
                found[host] = _Watched(path, host, shared, None)
            elif (known := found.setdefault(host.parent, self._of_file(path, host, shared))).names is not None:
                known.names.add(host.name)
        deep = {host for host, one in found.items() if one.names is None}
        return {host: one for host, one in found.items() if not any(above in deep for above in host.parents)}

    @staticmethod
    def _of_file(path: str, host: Path, shared: Carried) -> _Watched:
        return _Watched(str(PurePosixPath(path).parent), host.parent, shared, set())

    def answered(self, number: int) -> None:
        """The guest's kernel knows what message ``number`` told."""
        if self._answer is not None and self._answer[0] == number and not self._answer[1].done():
            self._answer[1].set_result(True)

    def guest_began(self) -> None:
        """Another engine, or one that has connected anew: what was under way is not answered, and may not have been done."""
        if self._answer is not None and not self._answer[1].done():
            self._answer[1].set_result(False)
        self._news.set()

    async def close(self) -> None:
        self._telling.cancel()
        for heard in self._heard.values():
            heard.close()
        if self._source is not None:
            await asyncio.to_thread(self._source.close)

    def _from_source(self, folder: Path, seen: Sequence[Seen], lost: bool) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._seen, folder, seen, lost)

    def _seen(self, folder: Path, seen: Sequence[Seen], lost: bool) -> None:
        one = self._watched.get(folder)
        if one is None:
            return
        for each in self._heard.values():
            each.drain()  # what the guest did was said before it was done
        echoes = self._echoes[one.shared.host]
        changes = [
            change
            for change in seen
            if (one.names is None or change.path in one.names or change.to in one.names)
            and not echoes.is_echo(one.host, change)
        ]
        heard = self._heard.get(one.shared.control)
        if changes and (echoes.uncertain or heard is None or not heard.hears):
            changes, lost = [], True
        if lost:
            one.pending.lose()
        lost = lost or one.pending.lost
        one.pending.add(changes)
        if one.pending.lost and not lost:
            log.info("too much changed in %s to be told one by one", one.host)
        if one.pending:
            self._news.set()

    def _missed(self, path: str) -> None:
        for host, one in self._watched.items():
            with contextlib.suppress(ValueError):
                below = Path(path).relative_to(host).as_posix()
                if one.names is None or below in one.names:
                    one.pending.add([Seen("modify", below)])
                    self._news.set()

    async def _tell_guest(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            for one in list(self._watched.values()):
                while one.pending and self._watched.get(one.host) is one:
                    if not await self._tell(one):
                        break

    async def _tell(self, one: _Watched) -> bool:
        """Whether the next may be told."""
        seen, lost = one.pending.take()
        try:
            changes = await asyncio.to_thread(describe, one.shared.host, one.host, seen)
        except Exception:
            log.exception("changes of %s could not be described", one.host)
            changes, lost = [], True
        if not changes and not lost:
            return True
        try:
            await self._told(one, changes, lost)
        except Exception:
            log.exception("changes of %s could not be told", one.host)
            one.pending.lose()
            return bool(changes)  # that some were lost may be told still
        return True

    async def _told(self, one: _Watched, changes: Sequence[Change], lost: bool) -> None:
        """Send a message, and wait for the guest to have done what it says."""
        number = self._next
        self._next += 1
        future: asyncio.Future[bool] = self._loop.create_future()
        self._answer = number, future
        try:
            self._send(Changes(number, one.guest, one.shared.token, tuple(changes), lost))
            async with asyncio.timeout(ANSWER_S):
                if not await future:
                    one.pending.lose()
        except TimeoutError:
            log.warning("the machine took more than %g s for %d changes in %s", ANSWER_S, len(changes), one.host)
            one.pending.lose()
        finally:
            self._answer = None

    def _complain(self, guest: str, words: str) -> None:
        if self.trouble.get(guest) != words:
            self.trouble[guest] = words
            log.warning("%s", words)


def _place(carried: Iterable[Carried], path: str) -> tuple[Carried, Path] | None:
    """The shared folder that a path of the guest lies in, and where it is on this computer; None too for what would lead out of it."""
    for one in carried:
        if path == one.guest or path.startswith(one.guest.rstrip("/") + "/"):
            names = [name for name in path[len(one.guest) :].split("/") if name]
            if any(name == ".." or PurePath(name).name != name for name in names):  # C: and a\b are paths on Windows
                return None
            return one, one.host.joinpath(*names)
    return None
