"""What a build has from elsewhere than its client: files of the web, and git repositories."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from coved.build.client import Client
from coved.build.errors import BuildError
from coved.build.remote import git_url
from coved.build.remote.holdings import Holding
from coved.build.vertices import Doing
from coved.dockerfile.instructions import Copy
from coved.registry import Registries

if TYPE_CHECKING:
    from coved.build.remote.contexts import Context, RemoteContexts
    from coved.build.remote.downloads import Downloads
    from coved.build.remote.git import Repositories


GIT = "source.git.checkout"
FILE = "regular"
"""BuildKit's type of what it has of the web: it has none of its own."""
_FOLDERS = {"downloads": "downloads", "repositories": "git", "contexts": "remote-contexts"}


class _Store(Protocol):
    async def entries(self) -> list[Holding]: ...

    async def remove(self, ids: Collection[str]) -> None: ...


@dataclass(frozen=True)
class Fetched:
    """A file, or a directory; ``key`` is the same for the same content."""

    name: str
    path: Path
    key: str


class Stores:
    """What was fetched for builds, and may be there for the next one. Few builds need it: what it takes is imported then.

    Args:
        folder: the builds' own.
    """

    def __init__(self, registries: Registries, folder: Path) -> None:
        self._registries = registries
        self._folder = folder

    @cached_property
    def downloads(self) -> Downloads:
        from coved.build.remote.downloads import Downloads

        return Downloads(self._registries, self._folder / _FOLDERS["downloads"])

    @cached_property
    def repositories(self) -> Repositories:
        from coved.build.remote.git import Repositories

        return Repositories(self._registries, self._folder / _FOLDERS["repositories"])

    @cached_property
    def contexts(self) -> RemoteContexts:
        from coved.build.remote.contexts import RemoteContexts

        return RemoteContexts(self.downloads, self.repositories, self._folder / _FOLDERS["contexts"])

    async def entries(self) -> list[tuple[str, Holding]]:
        """All that is kept, each with BuildKit's type of such a record. Raises OSError."""
        found = []
        for kind, store in await self._kept():
            found += [(kind, one) for one in await store.entries()]
        return found

    async def remove(self, ids: Collection[str]) -> None:
        """Those of them that no build uses. Raises OSError."""
        for _, store in await self._kept():
            await store.remove(ids)

    async def _kept(self) -> list[tuple[str, _Store]]:
        """The stores in which there is anything."""
        names = await asyncio.to_thread(lambda: [name for name in _FOLDERS if _has_any(self._folder / _FOLDERS[name])])
        return [(GIT if name == "repositories" else FILE, getattr(self, name)) for name in names]

    async def close(self) -> None:
        """Waits for what goes on in the background."""
        if "downloads" in vars(self):
            await self.downloads.close()


def _has_any(folder: Path) -> bool:
    """Downloads are two folders down, which stay; trees are folders."""
    return any(True for _ in folder.glob("*/*"))


class Remote:
    """For one build: what it has fetched stays until ``stack`` is closed."""

    def __init__(self, stores: Stores, client: Client, stack: contextlib.AsyncExitStack) -> None:
        self._stores = stores
        self._client = client
        self._stack = stack

    async def source(self, url: str, instruction: Copy, doing: Doing) -> Fetched:
        """What ADD names. Raises BuildError."""
        ref = git_url.parse(url)
        if ref is not None and not ref.local_looking:
            return await self._tree(ref, doing, instruction)
        with doing.part(f"fetching {url}") as part:
            file = await self._stack.enter_async_context(
                self._stores.downloads.file(
                    url, checksum=instruction.checksum, secret=self._client.secret, meter=part.tell
                )
            )
        return Fetched(file.name, file.path, f"{file.digest} {file.modified}")

    async def context(self, url: str, doing: Doing, *, named: bool = False, keep_git_dir: bool = False) -> Context:
        """A build context: a repository's files, what is in an archive, or a Dockerfile alone; of a ``named`` one the file itself.
        Raises BuildError."""
        if not git_url.is_elsewhere(url):
            raise BuildError(f"cannot build from {url}: it is neither a git repository nor a URL")
        with doing.part(f"fetching {url}") as part:
            return await self._stack.enter_async_context(
                self._stores.contexts.tree(
                    url,
                    named=named,
                    keep_git_dir=keep_git_dir,
                    secret=self._client.secret,
                    agent=self._client.ssh_agent,
                    meter=part.tell,
                )
            )

    async def _tree(self, ref: git_url.GitRef, doing: Doing, instruction: Copy | None) -> Fetched:
        keep = instruction is not None and instruction.keep_git_dir
        checksum = instruction.checksum if instruction is not None else ""
        with doing.part(f"fetching {ref.remote}") as part:
            tree = await self._stack.enter_async_context(
                self._stores.repositories.tree(
                    ref,
                    keep_git_dir=keep,
                    checksum=checksum,
                    secret=self._client.secret,
                    agent=self._client.ssh_agent,
                    meter=part.tell,
                )
            )
        return Fetched("", tree.path, tree.key)


def is_remote(source: str) -> bool:
    """Whether ADD fetches a source."""
    if source.startswith(("http://", "https://")):
        return True
    ref = git_url.parse(source)
    return ref is not None and not ref.local_looking
