"""What steps have changed: each snapshot is an overlay's upper directory (its whiteouts are devices 0:0, see "overlayfs" in the
kernel's documentation), under ``<root>/build/snapshots``, until it is made a layer of the images' store.

A row comes after its files. What has no row, or no files, goes at the next start; and so does what was sealed before the
machine died without having been settled, for nobody knows how much of it had come to the disk. What an engine was killed over
while it became a layer is a snapshot again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coved.errors import EngineError
from coved.finishing import to_the_end
from coved.images import Images
from coved.runtime import syscalls
from coved.runtime.ids import Ids
from coved.store.database import Database
from coved.store.trees import is_empty, remove_tree, sync_file_system, tree_size

if TYPE_CHECKING:
    from coved.build.orders import Refs
    from coved.images.adoption import Adopted

log = logging.getLogger(__name__)

_SCHEMA = (
    """
    CREATE TABLE build_snapshots (
        id TEXT PRIMARY KEY, size INTEGER NOT NULL, boot TEXT NOT NULL, diff_id TEXT NOT NULL
    ) STRICT;
    """,
)
_LAYER = "sha256:"
_FILES_MODE = 0o755
_SETTLE_S = 5.0
"""So long after it was sealed a snapshot is on the disk for good, whether somebody needs that or not."""
_LEAVE_S = 0.2
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Draft:
    """Where a step works: ``upper`` and ``work`` are for an overlay, and what else lies in ``directory`` is the step's own."""

    directory: Path

    @property
    def upper(self) -> Path:
        return self.directory / "upper"

    @property
    def work(self) -> Path:
        return self.directory / "work"


@dataclass(frozen=True)
class _Snapshot:
    size: int
    boot: str
    """The boot of the machine that it was sealed in, as long as it is not settled; "" then."""
    diff_id: str = ""
    """Of the layer that it has become."""


class Snapshots:
    """Belongs to the event loop; blocking work is done in threads.

    Args:
        root: the folder of everything that outlives the machine; ``build/`` in it is this class's.
    """

    def __init__(self, database: Database, images: Images, root: Path) -> None:
        self._database = database
        self._images = images
        self._directory = root / "build" / "snapshots"
        self._drafts = root / "build" / "drafts"
        self._nothing = root / "build" / "empty"
        for path in (self._directory, self._drafts, self._nothing):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._nothing.chmod(_FILES_MODE)
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        database.migrate("build snapshots", _SCHEMA)
        self._snapshots = {
            row["id"]: _Snapshot(row["size"], row["boot"], row["diff_id"])
            for row in database.query("SELECT * FROM build_snapshots")
        }
        self._publishing: dict[str, asyncio.Lock] = {}
        self._settling = asyncio.Lock()
        self._held = Counter[str]()
        self._users = Counter[str]()
        """Those who hold a snapshot since before it became a layer: they may have its own tree mounted."""
        self._condemned: dict[str, Path] = {}
        """Trees of snapshots that have become a layer which was there already, as long as they have users."""
        self._background: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._leaving: set[Path] = set()
        """Folders that nobody needs any more."""
        self._leave: asyncio.TimerHandle | None = None
        self._finished: set[Path] = set()
        """Drafts that have been sealed."""
        images.set_layer_users(self._layers_needed)
        self._recover()

    async def start(self) -> None:
        """Removes what interrupted work has left, and what may not be whole after a machine's death. Commands that have outlived
        an engine must have been ended: they work in drafts."""
        self._forget([ref for ref, one in self._snapshots.items() if not self._is_whole(ref, one)])
        kept = {ref for ref, one in self._snapshots.items() if not one.diff_id}
        await asyncio.to_thread(self._clean, kept)

    def _recover(self) -> None:
        """Brings trees back that were being made layers when an engine was killed: now, before the images' start removes what has
        no row there."""
        with os.scandir(self._directory) as entries:
            links = [Path(entry.path) for entry in entries if entry.is_symlink()]
        for tree in links:
            snapshot = self._snapshots.get(tree.name)
            if snapshot is not None and not snapshot.diff_id:
                try:
                    self._images.recover(tree)
                except OSError as error:  # no reason to do without the engine: the step is carried out again
                    log.error("the snapshot %s is lost: %s", tree.name, error)

    @property
    def directory(self) -> Path:
        """A folder on the disk of the layers, for whatever else builds keep there."""
        return self._directory.parent

    async def close(self) -> None:
        """Waits for what goes on in the background, and settles: the machine may be about to end."""
        self._settle_soon()
        self._remove_left()
        while self._background:
            for outcome in await asyncio.gather(*self._background, return_exceptions=True):
                if isinstance(outcome, Exception):  # what else is to be closed must be
                    log.error("what builds need no more stays until the next start", exc_info=outcome)

    def _settle_soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._begin(self.settle())

    # -- what there is

    def __contains__(self, ref: str) -> bool:
        """Whether it can be used: a snapshot, or a layer of the images' store."""
        if not ref.startswith(_LAYER):
            return ref in self._snapshots
        try:
            self._images.layer(ref)
        except EngineError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        """The snapshots, whatever they have become."""
        return iter([*self._snapshots])

    def lower_dirs(self, refs: Refs) -> list[Path]:
        """Directories for overlayfs, topmost first, of which there is at least one. What is there twice counts where it is
        topmost, as in ``Images.lower_dirs``. Raises EngineError when one of them is gone.
        """
        found = [self._place(ref)[0] for ref in reversed(refs) if ref]
        return [*dict.fromkeys(found)] or [self._nothing]

    def size(self, ref: str) -> int:
        """Bytes in its files. Raises EngineError when it is gone."""
        return self._place(ref)[1]

    def layer_of(self, ref: str) -> str:
        """The diff id of the layer that it is by now, or ""."""
        return ref if ref.startswith(_LAYER) else self._get(ref).diff_id

    @contextlib.contextmanager
    def held(self, refs: Iterable[str]) -> Iterator[None]:
        """See ``holding``; of what is known from the beginning."""
        with self.holding() as hold:
            for ref in refs:
                hold(ref)
            yield

    @contextlib.contextmanager
    def holding(self) -> Iterator[Callable[[str], None]]:
        """Gives what to call for each ref that is needed until the context is left: layers stay though images that have them are
        removed, and directories that ``lower_dirs`` gives from then on stay as well. Snapshots that are not to be removed are the
        caller's to keep."""
        held, used = Counter[str](), Counter[str]()

        def hold(ref: str) -> None:
            held[ref] += 1
            self._held[ref] += 1
            if ref in self._snapshots and not self.layer_of(ref):
                used[ref] += 1
                self._users[ref] += 1

        try:
            yield hold
        finally:
            layers = [ref for ref in _given_back(self._held, held) if ref.startswith(_LAYER)]
            condemned = [self._condemned.pop(ref) for ref in _given_back(self._users, used) if ref in self._condemned]
            if condemned:
                self._begin(asyncio.to_thread(_remove_all, condemned))
            if layers:
                self._begin(self._images.drop_layers(layers))

    # -- coming

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder on the disk of the snapshots. It goes a while after the context's end: who waits for an answer then needs
        the computer more."""
        made = self._drafts / secrets.token_hex(8)
        made.mkdir(mode=0o700)
        try:
            yield made
        finally:
            self._leaving.add(made)
            if self._leave is None:
                self._leave = asyncio.get_running_loop().call_later(_LEAVE_S, self._remove_left)

    def _remove_left(self) -> None:
        if self._leave is not None:
            self._leave.cancel()
            self._leave = None
        if self._leaving:
            self._begin(asyncio.to_thread(_remove_all, [*self._leaving]))
            self._leaving.clear()

    @contextlib.asynccontextmanager
    async def draft(self) -> AsyncIterator[Draft]:
        """A place for a step's work; it is gone at the end, but for what was sealed."""
        made = Draft(self._drafts / secrets.token_hex(8))
        try:
            for path in (made.directory, made.upper, made.work):
                path.mkdir(mode=_FILES_MODE)
            yield made
        finally:
            removal = asyncio.to_thread(remove_tree, made.directory)
            if made.directory not in self._finished:
                await to_the_end(removal)
            else:  # whoever has the ref must not be cancelled before he can note it
                self._finished.remove(made.directory)
                self._begin(removal)

    async def seal(self, draft: Draft, note: Callable[[str], object] | None = None) -> str:
        """Makes a snapshot of what has been changed, and gives its ref; "" when nothing has. Nothing may be mounted there
        any more.

        Args:
            note: called with the ref within the transaction that records the snapshot: none is without whoever needs it, even
                when the engine is killed. Without it, what is made goes at the engine's next start.

        A caller that is cancelled leaves none, but for what has been noted.
        """
        ref = secrets.token_hex(16)

        async def work() -> bool:
            size = await asyncio.to_thread(self._take, draft, ref)
            with self._database.transaction(lasting=False):
                if size is not None:
                    made = _Snapshot(size, self._boot)
                    self._database.execute("INSERT INTO build_snapshots VALUES (?, ?, ?, '')", (ref, size, self._boot))
                    self._database.after_commit(lambda: self._snapshots.__setitem__(ref, made))
                if note is not None:
                    note(ref if size is not None else "")
            if size is None:
                return False
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_SETTLE_S, self._settle_soon)
            return True

        try:
            changed = await to_the_end(work())
        except BaseException:
            if note is None or ref not in self._snapshots:
                await self.remove([ref])
            raise
        self._finished.add(draft.directory)
        return ref if changed else ""

    async def settle(self) -> None:
        """All that was sealed is on the disk for good."""
        async with self._settling:
            unsettled = [ref for ref, one in self._snapshots.items() if one.boot]
            if not unsettled:
                return
            await to_the_end(asyncio.to_thread(self._sync))
            settled = [ref for ref in unsettled if ref in self._snapshots]
            with self._database.transaction(lasting=False):
                for ref in settled:
                    self._database.execute("UPDATE build_snapshots SET boot = '' WHERE id = ?", (ref,))
            for ref in settled:
                self._snapshots[ref] = replace(self._snapshots[ref], boot="")

    async def diff_id(self, ref: str) -> str:
        """See ``diff_ids``."""
        return (await self.diff_ids([ref]))[ref]

    async def diff_ids(self, refs: Iterable[str]) -> dict[str, str]:
        """Makes snapshots layers of the images' store, unless they are, and gives the diff id of each ref. Their files are
        moved, not copied; the ref stands for that layer from then on. What is "sha256:..." is its own.

        Raises EngineError when one is gone, or nested too deep.
        """
        wanted = [*dict.fromkeys(refs)]
        async with contextlib.AsyncExitStack() as stack:
            for ref in sorted(ref for ref in wanted if not self.layer_of(ref)):
                await stack.enter_async_context(self._publishing.setdefault(ref, asyncio.Lock()))
            if own := [ref for ref in wanted if not self.layer_of(ref)]:
                await self._publish(own)
        for ref in wanted:
            self._publishing.pop(ref, None)  # whoever waits for the lock finds the layer
        return {ref: self.layer_of(ref) for ref in wanted}

    async def _publish(self, refs: Sequence[str]) -> None:
        from coved.images.adoption import Tree  # see _archive

        def record(adopted: list[Adopted]) -> None:
            for ref, one in zip(refs, adopted, strict=True):
                sql = "UPDATE build_snapshots SET diff_id = ?, boot = '' WHERE id = ?"
                self._database.execute(sql, (one.diff_id, ref))
                after = replace(self._get(ref), diff_id=one.diff_id, boot="")
                self._database.after_commit(functools.partial(self._snapshots.__setitem__, ref, after))

        with self.held(refs):
            trees = [self._directory / ref for ref in refs]
            wanted = [Tree(tree, _archive(tree), self.size(ref)) for ref, tree in zip(refs, trees, strict=True)]
            for tree, (diff_id, moved) in zip(trees, await self._images.adopt(wanted, record), strict=True):
                if not moved:
                    layer, _ = self._images.layer(diff_id)
                    self._condemned[tree.name] = await asyncio.to_thread(self._set_aside, tree, layer)

    # -- going

    async def remove(self, refs: Collection[str]) -> None:
        """Removes snapshots, and the layers that they have become unless an image has them. What is none is left alone."""
        going = [ref for ref in dict.fromkeys(refs) if not ref.startswith(_LAYER)]
        layers = {one.diff_id for ref in going if (one := self._snapshots.get(ref)) is not None} - {""}
        self._forget([ref for ref in going if ref in self._snapshots])

        async def work() -> None:
            await asyncio.to_thread(_remove_all, [self._directory / ref for ref in going])
            if layers:
                await self._images.drop_layers(layers)

        if going:
            await to_the_end(work())

    def remove_soon(self, refs: Collection[str]) -> None:
        """See ``remove``; in the background. What fails, or is killed over, goes at the next start."""
        self._begin(self.remove(refs))

    def _forget(self, refs: Collection[str]) -> None:
        if not refs:
            return
        with self._database.transaction():
            for ref in refs:
                self._database.execute("DELETE FROM build_snapshots WHERE id = ?", (ref,))
        for ref in refs:
            del self._snapshots[ref]

    def _begin(self, work: Coroutine[Any, Any, object]) -> None:
        async def run() -> None:
            try:
                await work
            except (EngineError, OSError) as error:
                log.error("what builds need no more stays until the next start: %s", error)

        task = asyncio.get_running_loop().create_task(run())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # -- inside

    def _get(self, ref: str) -> _Snapshot:
        if ref not in self._snapshots:
            raise EngineError(f"snapshot {ref} does not exist")
        return self._snapshots[ref]

    def _place(self, ref: str) -> tuple[Path, int]:
        if layer := self.layer_of(ref):
            return self._images.layer(layer)
        return self._directory / ref, self._get(ref).size

    def _layers_needed(self) -> set[str]:
        needed = {one.diff_id for one in self._snapshots.values() if one.diff_id}
        return needed | {ref for ref in self._held if ref.startswith(_LAYER)}

    def _is_whole(self, ref: str, snapshot: _Snapshot) -> bool:
        if snapshot.diff_id:
            return snapshot.diff_id in self
        path = self._directory / ref
        return snapshot.boot in ("", self._boot) and path.is_dir() and not path.is_symlink()

    # -- in threads

    def _take(self, draft: Draft, ref: str) -> int | None:
        if is_empty(draft.upper):
            return None
        os.chown(draft.upper, 0, 0)
        draft.upper.chmod(_FILES_MODE)  # as layers have it that are unpacked: archives say nothing of it
        size = tree_size(draft.upper, files_only=True)
        draft.upper.rename(self._directory / ref)
        return size

    def _set_aside(self, tree: Path, layer: Path) -> Path:
        """Puts a link to ``layer``, which has the same files, in a tree's place. The tree itself may be mounted still."""
        aside = self._drafts / secrets.token_hex(8)
        aside.symlink_to(layer.absolute())
        syscalls.exchange(str(tree), str(aside))
        return aside

    def _sync(self) -> None:
        fd = os.open(self._directory, _DIRECTORY)
        try:
            sync_file_system(fd)
        finally:
            os.close(fd)

    def _clean(self, kept: Collection[str]) -> None:
        for path in (*self._directory.iterdir(), *self._drafts.iterdir()):
            if path.parent != self._directory or path.name not in kept:
                try:
                    remove_tree(path)
                except OSError as error:  # no reason to do without the engine
                    log.error("%s stays for now: %s", path, error)


def _given_back(counts: Counter[str], those: Counter[str]) -> list[str]:
    """Those of which nothing is left."""
    counts.subtract(those)
    none = [ref for ref in those if not counts[ref]]
    for ref in none:
        del counts[ref]
    return none


def _remove_all(trees: Iterable[Path]) -> None:
    for tree in trees:
        remove_tree(tree)


def _archive(tree: Path) -> Generator[bytes, None, None]:
    """The layer's archive, as a commit makes it of a container's files."""
    from coved.files import tarwriter  # every engine has snapshots, and few make layers

    root = os.open(tree, _DIRECTORY)
    try:
        yield from tarwriter.archive(root, ".", "", Ids(), layer=True)
    finally:
        os.close(root)
