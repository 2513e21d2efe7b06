"""Where containers' mounts come from: volumes, directories of the engine's machine, and, in the VM, of the user's computer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from coved.containers.config_schema import Json
from coved.containers.mountpoints import MountPoint, ensure_source
from coved.errors import EngineError
from coved.shares.shares import Located, MissingSource, Shares
from coved.volumes import Volumes
from coved.watching.watched import Watched

log = logging.getLogger(__name__)
Pair = tuple[MountPoint, str]
"""A mount, and the path that it comes from, "" for a tmpfs; its ``subpath`` is what of that it is."""


class Binds:
    """Args: shares: None where the user's computer is the engine's own; watched: which of them it watches for us."""

    def __init__(self, volumes: Volumes, shares: Shares | None, watched: Watched | None = None) -> None:
        self._watched = watched
        self._volumes = volumes
        self._shares = shares

    async def reading(self, host: Json) -> dict[str, bool]:
        """How `mountpoints.collect` is to read what a HostConfig asks for."""
        if self._shares is None:
            return {}
        asked = [*(host["Binds"] or ()), *(one.get("Source") or "" for one in host["Mounts"] or ())]
        if any(isinstance(text, str) and text[1:2] == ":" for text in asked):
            await self._shares.known()  # a drive: names of volumes have two letters
        return {"look": False, "drives": self._shares.table.windows}

    async def check(self, mounts: Iterable[MountPoint]) -> list[str]:
        """Before a container is made: warnings. Raises InvalidParameter for what could not be mounted."""
        if self._shares is None:
            return []  # each was looked for when it was read
        warnings = []
        for mount in mounts:
            if mount.kind == "bind":
                try:
                    await self._shares.locate(mount.source, create=False)
                except MissingSource:
                    if not mount.create_source:
                        raise
                if warning := self._shares.warning(mount.source):
                    warnings.append(warning)
        return warnings

    async def ready(self, mounts: Iterable[MountPoint]) -> list[Pair]:
        """For a start: what a bind comes from is made when it is missing and may be made. Raises InvalidParameter, EngineError."""
        return [await self._ready(mount) for mount in mounts if mount.kind != "image"]

    async def begin(self, container_id: str, mounted: Iterable[Pair]) -> None:
        """Before a container has these mounted: what the user's computer changes in them is to be seen in it."""
        if self._watched is not None:
            await self._watched.begin(container_id, await self._of_the_user(mounted))

    async def begin_again(self, container_id: str, mounts: Iterable[MountPoint], running: Callable[[], bool]) -> None:
        """As `begin`, for one that runs since before this engine, unless it has ended meanwhile. Raises EngineError."""
        if self._watched is not None:
            theirs = await self._of_the_user(await self.there(mounts))
            if running():
                await self._watched.begin(container_id, theirs)

    async def _of_the_user(self, mounted: Iterable[Pair]) -> list[str]:
        """Where in the VM lies what these have of the user's computer."""
        if self._shares is None:
            return []
        found = []
        for mount, source in mounted:
            located = Located(source, mount.subpath)
            if mount.kind == "volume":
                if not (device := self._volumes.device(mount.source)):
                    continue
                try:
                    located = await self._shares.locate(device, create=False)
                except EngineError as error:
                    log.warning("changes in the volume %s are not watched: %s", mount.source, error)
                    continue
            elif mount.kind != "bind":
                continue
            if located.source.startswith(self._shares.root):
                found.append(f"{located.source}/{located.below}".rstrip("/"))
        return found

    def end(self, container_id: str) -> None:
        """A container has ended, or was not started."""
        if self._watched is not None:
            self._watched.end(container_id)

    async def there(self, mounts: Iterable[MountPoint]) -> list[Pair]:
        """For a look: nothing is made, and what is to be looked for may still be missing."""
        pairs = []
        for mount in mounts:
            if mount.kind == "bind" and self._shares is not None:
                try:
                    located = await self._shares.locate(mount.source, create=False)
                except MissingSource:
                    continue
                pairs.append((_as_located(mount, located), located.source))
            else:
                pairs.append((mount, self.source(mount)))
        return pairs

    async def _ready(self, mount: MountPoint) -> Pair:
        if mount.kind == "bind" and self._shares is not None:
            located = await self._shares.locate(mount.source, create=mount.create_source)
            return _as_located(mount, located), located.source
        if mount.kind == "bind":
            ensure_source(mount)
        return mount, self.source(mount)

    def source(self, mount: MountPoint) -> str:
        """As an inspect tells it; "" for a tmpfs and an image."""
        if mount.kind == "image":
            return ""
        return str(self._volumes.path(mount.source)) if mount.kind == "volume" else mount.source


def _as_located(mount: MountPoint, located: Located) -> MountPoint:
    return replace(mount, subpath=located.below, writable=mount.writable and not located.read_only)
