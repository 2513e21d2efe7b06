"""The engine's side of shared folders: mounts them as the host says, and finds the files that binds mean."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import posixpath
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from coved.errors import EngineError, InvalidParameter
from coved.finishing import to_the_end
from coved.outside import Zone
from coved.shares import mounting
from coved.shares import zone as zones
from coved.shares.resolve import NotShared, Place, resolve
from coved.shares.table import SOCKET, Share, Table, is_of_the_vm
from coved.threads import abandonable

log = logging.getLogger(__name__)
T = TypeVar("T")

ROOT = Path("/run/cove/host")
TOLD_S = 30.0
"""Seconds that who needs a folder waits for the host to share it: after a start the devices come while containers are started."""
ANSWER_S = 20.0
"""Seconds that a folder may take to answer: the user's computer may wait for a disk, or for a server that is gone."""


class MissingSource(InvalidParameter):
    """The user's computer shares the folder, and what is wanted is not in it."""

    def __init__(self, source: str) -> None:
        super().__init__(f'invalid mount config for type "bind": bind source path does not exist: {source}')


@dataclass(frozen=True, slots=True)
class Located:
    """Where a bind's source is in the VM: ``source`` exists without links, and what is wanted lies ``below`` it."""

    source: str
    below: str = ""
    read_only: bool = False
    """As the folder is, whose mount may not say so (`coved.shares.mounting`)."""


class Shares:
    """Folders as the host has told, from the last ``set`` on."""

    def __init__(
        self, root: Path = ROOT, zone: Callable[[], Zone] = Zone, zones: Path = zones.FOLDER, beside: str = ""
    ) -> None:
        """``zone``: what the host has said of it last; ``zones``: where its files are made; ``beside``: where the files lie of the system
        that the engine runs beside, "" for none."""
        self._root = root
        self._beside = beside
        self._zone, self._zones = zone, zones
        self._turn = asyncio.Lock()
        self._told = asyncio.Event()
        self.table = Table()
        """Of those that are mounted."""
        self._errors: dict[str, str] = {}
        self._missing: tuple[Share, ...] = ()
        self.machine = ""
        """What the user calls this machine, "" for not known."""
        self.listed: tuple[str, ...] = ()
        """The folders of its setting."""
        self.users: Callable[[], Iterable[tuple[str, str]]] = tuple
        """Asked for what is in use: names of containers that run, and paths that they have of the user's computer."""

    @property
    def root(self) -> str:
        """What the paths of all of them begin with."""
        return f"{self._root}/"

    def place(self, share: Share) -> Path:
        """Where a folder is mounted."""
        return self._root / share.tag

    # -- for the link

    async def set(self, table: Table, lost: Iterable[str] = ()) -> tuple[dict[str, str], list[str]]:
        """Have exactly these folders mounted. What is mounted of ``lost``, by tag, answers nothing any more, and is dropped.

        Returns what went wrong, by tag, and names of containers that use what shall go: while there are any, nothing is changed.
        """
        async with self._turn:
            for tag in lost:
                for share in (share for share in self.table.shares if share.tag == tag):
                    log.error("%s of the user's computer does not answer any more", share.path)
                await to_the_end(abandonable(lambda tag=tag: mounting.drop(self._root / tag)))  # type: ignore[misc]
            gone = [share for share in self.table.shares if share not in table.shares and share.tag not in {*lost}]
            if busy := self.used_by(gone):
                return {}, busy
            self._told.clear()
            errors: dict[str, str] = {}
            there = await abandonable(lambda: mounting.mounted(self._root))
            keep = {share.tag for share in table.shares} - {share.tag for share in gone}
            for tag in sorted(there - keep):
                try:
                    await to_the_end(abandonable(lambda tag=tag: mounting.unmount(self._root / tag)))  # type: ignore[misc]
                    there.discard(tag)
                except OSError as error:
                    errors[tag] = error.strerror or str(error)
            once = {share.tag: share for share in table.shares if share.tag not in there}  # it may have several paths
            made = await asyncio.gather(*map(self._mount, once.values()))
            errors |= {share.tag: error for share, error in made if error}
            mounted = tuple(share for share in table.shares if share.tag not in errors)
            self.table = replace(table, shares=mounted)
            self._missing = tuple(share for share in table.shares if share.tag in errors)
            self._errors = errors
            if table.shares or not gone:  # those that were taken away for a suspension come again
                self._told.set()
            return errors, []

    async def _mount(self, share: Share) -> tuple[Share, str]:
        try:
            await to_the_end(abandonable(lambda: mounting.mount(share, self.place(share))))
        except OSError as error:
            log.error("%s of the user's computer cannot be mounted: %s", share.path, error)
            return share, error.strerror or str(error)
        return share, ""

    def used_by(self, shares: Iterable[Share]) -> list[str]:
        """Names of containers that have something of ``shares`` mounted."""
        wanted = set(shares)
        names = {name for name, path in self.users() if (found := self.table.find(path)) and found[0] in wanted}
        return sorted(names)

    # -- for containers

    async def locate(self, source: str, *, create: bool) -> Located:
        """Where a bind's source is, made as a directory when it is missing and ``create`` says so.

        Raises MissingSource as dockerd does for a source that is not there; InvalidParameter when it is not shared, EngineError.
        """
        if is_of_the_vm(self.table.normal(source)):
            return Located(source)
        path, zone = self.table.normal(source), self._zone()
        if zones.is_known(path, zone):
            try:
                file = await abandonable(lambda: zones.place(path, zone, self._zones))
            except OSError as error:
                raise EngineError(f"{source} cannot be made: {(error.strerror or str(error)).lower()}") from None
            return Located(str(file), read_only=True)
        await self._wait(source)
        place: Place | None = None
        try:
            async with asyncio.timeout(ANSWER_S):
                place = await abandonable(lambda: resolve(self.table, source, self.place, create=create))
        except TimeoutError:
            raise EngineError(f"{source}: the folder of this computer does not answer (see: {self._status})") from None
        except NotShared as error:
            return await self._not_shared(source, error.path)
        except FileNotFoundError:
            raise MissingSource(source) from None
        except OSError as error:
            doing = "creating" if create else "finding"
            raise EngineError(
                f"error while {doing} mount source path '{source}': {(error.strerror or str(error)).lower()}"
            ) from None
        return Located(str(self.place(place.share)), place.below, place.share.read_only)

    async def known(self) -> None:
        """Return when the host has told what it shares, or does not in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TOLD_S):
                await self._told.wait()

    async def _wait(self, source: str) -> None:
        try:
            async with asyncio.timeout(TOLD_S):
                await self._told.wait()
        except TimeoutError:
            raise EngineError(
                f"{source}: the machine has not been given the folders of this computer yet; is its agent running?"
                f" ({self._status})"
            ) from None

    async def _not_shared(self, source: str, led_to: str) -> Located:
        """The engine's socket; else what is not the user's may be the VM's own, as it always was, if it is there."""
        if self.table.is_socket(led_to):
            return Located(SOCKET)
        for share in self._missing:
            if Table((share,), self.table.windows, self.table.fold_case).find(led_to):
                which = "" if share.path == source else f"{source}: "
                raise EngineError(
                    f"{which}the folder {share.path} of this computer could not be shared with the machine:"
                    f" {self._errors.get(share.tag, 'unknown error')} (see: {self._status})"
                )
        if led_to == self.table.normal(source) and await abandonable(lambda: Path(source).exists()):
            return Located(source)
        through = "" if led_to == self.table.normal(source) else f", where {source} leads,"
        raise InvalidParameter(
            f'invalid mount config for type "bind": bind source path does not exist: {source}'
            f" ({led_to}{through} is not in a folder that this computer shares with Cove's machine{self._how(led_to)})"
        )

    def _how(self, path: str) -> str:
        """How to share what is not; "" when that would be of no use. Whether it is a folder is not known here."""
        if self._means_the_engines(path):
            return ""
        if self._missing and not self.table.shares:
            return (
                f"; no folder of this computer can be shared: {self._errors.get(self._missing[0].tag, 'unknown error')}"
            )
        folder = posixpath.dirname(path)
        file = f"; of a file, share the folder that it lies in: {folder}" if folder != "/" else ""
        folders = ",".join([*self.listed, path])
        value = folders if self.table.windows else shlex.quote(folders)
        option, name = (f" -m {self.machine}", f" {self.machine}") if self.machine else ("", "")
        return f"; share it: cove config set{option} shared_folders {value} && cove machine restart{name}{file}"

    @property
    def _status(self) -> str:
        return f"cove machine status {self.machine}".rstrip()

    def _means_the_engines(self, path: str) -> bool:
        return is_of_the_vm(path) or bool(self._beside and f"{path}/".startswith(f"{self._beside}/"))

    def warning(self, source: str) -> str:
        """For a source that turned out to be the VM's own; "" when that is what people mean by it."""
        if (
            self._means_the_engines(source)
            or self.table.is_socket(source)
            or self.table.find(source)
            or zones.is_known(self.table.normal(source), self._zone())
        ):
            return ""
        return f"{source} is a path in Cove's VM: this computer does not share its own{self._how(source)}"
