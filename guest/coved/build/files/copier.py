"""Copies and hashes of files for the event loop: each in a thread, which ends with its caller."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from coved.build.cache.snapshots import Draft, Snapshots
from coved.build.files import copying, hashing, places, selection
from coved.build.files.hash_memory import HashMemory
from coved.build.orders import CopyOrder, Files
from coved.images.streams import in_thread

T = TypeVar("T")

_WORKERS = 8
_KNOWN_MAX = 1000


class Copier:
    """``folder``: where hashes of files are kept from build to build."""

    def __init__(self, snapshots: Snapshots, folder: Path) -> None:
        self._snapshots = snapshots
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._memory = HashMemory(folder)
        self._known: dict[object, str] = {}
        """Digests of what layers have, which never changes."""
        self._workers = ThreadPoolExecutor(_WORKERS, "copies")

    def close(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)

    async def copy(self, order: CopyOrder, draft: Draft) -> None:
        """What the order changes is in the draft's upper directory then. Raises BuildError, StorageFull."""
        lower, sources = self._snapshots.lower_dirs(order.lower), self._layers(order.files)
        with self._snapshots.held([*order.lower, *order.files.refs]):
            await self._run(lambda wanted: copying.copy(order, lower, draft.upper, draft.work, sources, wanted=wanted))

    async def digest(
        self, files: Files, sources: Sequence[str], *, parents: bool = False, excludes: Sequence[str] = ()
    ) -> str:
        """Of exactly what would be copied. Raises BuildError."""
        layers = self._layers(files)
        ref = files.refs[-1] if files.refs else (files.key or "context")
        what = files.refs, tuple(sources), parents, tuple(excludes)
        if files.directory is None and what in self._known:
            return self._known[what]
        with self._snapshots.held(files.refs):
            found = await self._run(
                lambda wanted: hashing.digest(
                    sources, directory=files.directory, layers=layers, parents=parents, excludes=excludes, ref=ref,
                    memory=self._memory, tree=files.key, wanted=wanted,
                )
            )  # fmt: skip
        if files.directory is None:
            self._known[what] = found
            if len(self._known) > _KNOWN_MAX:
                del self._known[next(iter(self._known))]
        return found

    async def kind(self, files: Files, sources: Sequence[str]) -> str:
        """Whether sources are a "file", a "dir", or several ("multi"). Raises BuildError."""
        layers = self._layers(files)

        def look(wanted: Callable[[], bool]) -> str:
            with places.opened(files.directory, layers) as root:
                found = [one for source in sources for one in selection.find(root, source)]
            if len(found) != 1:
                return "multi"
            return "dir" if stat.S_ISDIR(found[0].status.st_mode) else "file"

        with self._snapshots.held(files.refs):
            return await self._run(look)

    def _layers(self, files: Files) -> Sequence[Path]:
        return () if files.directory is not None else self._snapshots.lower_dirs(files.refs)

    async def _run(self, work: Callable[[Callable[[], bool]], T]) -> T:
        given_up = threading.Event()
        return await in_thread(self._workers, lambda: work(lambda: not given_up.is_set()), given_up.set)
