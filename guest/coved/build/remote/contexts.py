"""Contexts of builds that lie elsewhere: git repositories, archives, and single Dockerfiles (``docker build https://...``)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coved.build.errors import BuildError
from coved.build.files import unpacking
from coved.build.files.places import OPEN_DIRECTORY, OPEN_FILE, describe
from coved.build.remote import git_url
from coved.build.remote.downloads import Download, Downloads, Secret, public
from coved.build.remote.holdings import Holding
from coved.build.remote.kept_trees import KeptTrees
from coved.errors import no_room
from coved.images.streams import OwnThreads, in_thread

if TYPE_CHECKING:
    from coved.build.remote.git import Agent, Repositories

TREES_MAX = 16
_FILE = "context"
"""What BuildKit calls a file that is no archive."""

Meter = Callable[[int], None]


@dataclass(frozen=True)
class Context:
    """There as long as the context that gave it is open."""

    path: Path
    key: str
    """The same for the same files."""
    dockerfile: str = ""
    """What the Dockerfile is called in it, when there is nothing else; "" is what the build says."""
    commit: str = ""
    """Of a repository."""


class RemoteContexts:
    """Belongs to the event loop; blocking work is done in threads. ``directory`` is this class's alone."""

    def __init__(self, downloads: Downloads, repositories: Repositories, directory: Path) -> None:
        self._downloads = downloads
        self._repositories = repositories
        self._trees = KeptTrees(directory, TREES_MAX)

    async def entries(self) -> list[Holding]:
        """Of what does not belong to the repositories. Raises OSError."""
        return await self._trees.entries()

    async def remove(self, ids: Iterable[str]) -> None:
        """Those of them that no build uses."""
        await self._trees.remove(ids)

    @contextlib.asynccontextmanager
    async def tree(
        self, url: str, *, keep_git_dir: bool = False, named: bool = False, secret: Secret | None = None,
        agent: Agent | None = None, meter: Meter = lambda done: None,
    ) -> AsyncIterator[Context]:  # fmt: skip
        """The files of a context.

        Args:
            named: it is a named context (``--build-context``), in which BuildKit unpacks no archive: the file has its own name.
            meter: told of the bytes that have come.

        Raises BuildError in BuildKit's words.
        """
        ref = git_url.parse(url)
        if ref is not None:
            async with self._repositories.tree(
                ref, keep_git_dir=keep_git_dir, secret=secret, agent=agent, meter=meter
            ) as found:
                yield Context(found.path, found.key, commit=found.commit)
            return
        async with self._downloads.file(url, secret=secret, meter=lambda done, total: meter(done)) as file:
            kind = f"file-{hashlib.sha256(os.fsencode(file.name)).hexdigest()[:16]}" if named else "any"
            key = f"{kind}-{file.digest.removeprefix('sha256:')}"
            async with contextlib.AsyncExitStack() as stack:
                try:
                    kept = await stack.enter_async_context(
                        self._trees.held(
                            key, lambda place: _made(file, place, named=named), f"http context {public(url)}"
                        )
                    )
                    single = await asyncio.to_thread((kept / _FILE).is_dir)
                except OSError as error:
                    raise no_room(error) or BuildError(describe(error)) from error
                path = kept / (_FILE if single else "tree")
                yield Context(path, f"web:{key}", dockerfile=_FILE if single else "")


async def _made(file: Download, place: Path, *, named: bool) -> None:
    """Fills ``place``/tree with what is in an archive, or else ``place``/context with the file."""
    given_up = threading.Event()

    def work() -> None:
        source = os.open(file.path, OPEN_FILE)
        try:
            archive = not named and unpacking.is_archive(source)
            target = place / ("tree" if archive else _FILE)
            target.mkdir(mode=0o755)
            target.chmod(0o755)
            folder = os.open(target, OPEN_DIRECTORY)
            try:
                if archive:
                    unpacking.unpack(source, folder, None, lambda: not given_up.is_set())
                else:
                    _copied(source, folder, file.name if named else _FILE)
            finally:
                os.close(folder)
        finally:
            os.close(source)

    await in_thread(OwnThreads(), work, given_up.set)


def _copied(source: int, folder: int, name: str) -> None:
    found = os.fstat(source)
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        while os.sendfile(fd, source, None, 1 << 20):
            pass
        os.utime(fd, ns=(found.st_atime_ns, found.st_mtime_ns))
    finally:
        os.close(fd)
