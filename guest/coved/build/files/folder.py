"""A build context that is here already, in a folder of its own: an archive that came with the request, or what was fetched."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from coved.build.client import Meter, Tree
from coved.build.errors import BuildError
from coved.build.files.places import DEPTH_MAX
from coved.dockerfile.ignore import Matcher
from coved.errors import EngineError, NotFound
from coved.images.streams import in_thread
from coved.store.trees import remove_entry

_NO_SESSION = "the client of this build takes no files: it has no session"


class Folder:
    """A ``Client`` without a session. ``path`` is the build's own: what is ignored is removed from it."""

    def __init__(self, path: Path, credentials: Mapping[str, tuple[str, str]] | None = None) -> None:
        self._path = path
        self._credentials = credentials or {}
        self._key = ""

    @contextlib.asynccontextmanager
    async def tree(
        self, name: str, *, excludes: Sequence[str] = (), only: Sequence[str] = (), meter: Meter = lambda _: None
    ) -> AsyncIterator[Tree]:
        if name not in ("context", "dockerfile"):
            raise NotFound(f"the client has no folder {name}")
        if excludes:
            self._path = await self._changeable()
            given_up = threading.Event()
            await in_thread(None, lambda: leave_out(self._path, excludes, lambda: not given_up.is_set()), given_up.set)
        yield Tree(self._path, self._key)

    async def _changeable(self) -> Path:
        return self._path

    async def secret(self, id: str) -> bytes | None:
        return None

    @contextlib.asynccontextmanager
    async def ssh_agent(self, id: str) -> AsyncIterator[Path | None]:
        yield None

    async def credentials(self, host: str) -> tuple[str, str]:
        return self._credentials.get(host, ("", ""))

    async def receive_tar(self, output: int, chunks: AsyncIterator[bytes]) -> None:
        raise EngineError(_NO_SESSION)

    async def receive_tree(self, output: int, path: Path, subfolders: Mapping[str, Path] | None = None) -> None:
        raise EngineError(_NO_SESSION)


class Shared(Folder):
    """One whose ``path`` others use as well: what is ignored is removed from a copy, which ``copy`` makes."""

    def __init__(self, path: Path, key: str, copy: Callable[[Path], Awaitable[Path]]) -> None:
        super().__init__(path)
        self._key = key
        self._copy: Callable[[Path], Awaitable[Path]] | None = copy

    async def _changeable(self) -> Path:
        if self._copy is None:
            return self._path
        copy, self._copy, self._key = self._copy, None, ""
        return await copy(self._path)


def leave_out(root: Path, excludes: Sequence[str], wanted: Callable[[], bool] = lambda: True) -> None:
    """Removes what patterns of .dockerignore match, as long as it is ``wanted``. Raises BuildError."""
    matcher = Matcher(excludes)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _leave_out(fd, "", matcher, wanted)
    finally:
        os.close(fd)


def _leave_out(folder: int, prefix: str, matcher: Matcher, wanted: Callable[[], bool]) -> bool:
    """Whether nothing is left."""
    left = False
    if prefix.count("/") > DEPTH_MAX:
        raise BuildError(f"directories are nested more than {DEPTH_MAX} deep at /{prefix[:200]}...")
    for name in os.listdir(folder):
        if not wanted():
            raise BuildError("context canceled")
        path = f"{prefix}{name}"
        is_folder = stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        matched = matcher.matches(path)
        if matched and (not is_folder or matcher.may_skip(path)):
            remove_entry(folder, name)
            continue
        if is_folder:
            child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                emptied = _leave_out(child, f"{path}/", matcher, wanted)
            finally:
                os.close(child)
            if matched and emptied:
                os.rmdir(name, dir_fd=folder)
                continue
        left = True
    return not left
