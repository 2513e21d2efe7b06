"""Layers on their way: fetched, verified and unpacked, once for all pulls that want them at the time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from coved.errors import EngineError, no_room
from coved.finishing import to_the_end
from coved.images import Images
from coved.images.documents import Descriptor
from coved.images.staging import Staging
from coved.images.streams import CountedFile, OwnThreads
from coved.images.tar import BadArchive
from coved.registry.calls import in_call
from coved.registry.errors import RegistryError
from coved.registry.progress import Message, Meter, Report, action
from coved.registry.repository import Download, Repository
from coved.store.trees import remove_tree

ATTEMPTS = 5
RETRY_S = 5
_GAIN = 64 * 1024
"""Bytes after which a connection that breaks was good enough to go on at once."""


class Transfers:
    """All of an engine. Belongs to the event loop."""

    def __init__(self, images: Images, spool: Path) -> None:
        """``spool``: a folder, on the images' file system, that is emptied at each start."""
        self.images = images
        self.spool = spool
        self._staging: Staging | None = None
        self._pulls = 0
        self.live: dict[tuple[str, str], Transfer] = {}
        # Unpacking is the processors' work; more at once would take memory and no less time.
        self.unpacking = asyncio.Semaphore(len(os.sched_getaffinity(0)))

    def join(
        self,
        staging: Staging,
        repository: Repository,
        layer: Descriptor,
        diff_id: str,
        gate: asyncio.Semaphore,
        report: Report,
    ) -> Transfer:
        """A layer that is to come; ``report`` hears of it until ``Transfer.leave``. ``gate`` bounds a pull's downloads."""
        key = (repository.auth.key, f"{layer.digest} {diff_id}")
        transfer = self.live.get(key)
        if transfer is None:
            transfer = self.live[key] = Transfer(self, staging, key, repository, layer, diff_id, gate)
        transfer.watch(report)
        return transfer

    @contextlib.asynccontextmanager
    async def staging(self) -> AsyncIterator[Staging]:
        """Where layers are unpacked for all pulls that go on at the time. What nobody has taken over goes with the last."""
        if self._staging is None:
            self._staging = self.images.receiving()
        self._pulls += 1
        mine = self._staging
        try:
            yield mine
        finally:
            self._pulls -= 1
            if not self._pulls:
                self._staging = None
                await mine.__aexit__(None, None, None)

    async def close(self) -> None:
        await asyncio.gather(*(transfer.end() for transfer in [*self.live.values()]))


class Transfer:
    """One layer. Ends when nobody wants it any more."""

    def __init__(
        self,
        owner: Transfers,
        staging: Staging,
        key: tuple[str, str],
        repository: Repository,
        layer: Descriptor,
        diff_id: str,
        gate: asyncio.Semaphore,
    ) -> None:
        self.diff_id = diff_id
        self.layer = layer
        self._staging = staging
        self._owner = owner
        self._key = key
        self._repository = repository
        self._gate = gate
        self._identity = layer.digest.removeprefix("sha256:")[:12]
        self._watchers: list[Report] = []
        self._last: Message | None = None
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run())

    def watch(self, report: Report) -> None:
        self._watchers.append(report)
        report(action("Pulling fs layer", self._identity))
        if self._last is not None:
            report(self._last)

    async def leave(self, report: Report) -> None:
        """The layer is here or of no interest."""
        self._watchers.remove(report)
        if not self._watchers:
            await self.end()

    async def wait(self) -> None:
        """Until the layer is unpacked. Raises RegistryError, StorageFull."""
        await asyncio.shield(self._task)

    async def end(self) -> None:
        if self._owner.live.get(self._key) is self:
            del self._owner.live[self._key]
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _say(self, message: Message) -> None:
        self._last = message
        for report in self._watchers:
            report(message)

    def _post(self, message: Message) -> None:
        """For a thread."""
        self._loop.call_soon_threadsafe(self._say, message)

    async def _run(self) -> None:
        try:
            async with self._folder() as folder:
                if self._gate.locked():
                    self._say(action("Waiting", self._identity))
                async with self._gate:
                    download = Download(folder / "layer", self.layer.digest, self.layer.size)
                    try:
                        await self._download(download)
                    finally:
                        download.close()
                self._say(action("Download complete", self._identity))
                async with self._owner.unpacking:
                    await self._unpack(download)
                self._say(action("Pull complete", self._identity))
        except BadArchive as error:
            raise RegistryError(f"failed to register layer: {error}", again=False) from error
        except OSError as error:
            full = no_room(error)
            if full is None:
                raise
            raise RegistryError(f"failed to register layer: {full}", again=False) from error
        except RegistryError:
            raise
        except EngineError as error:
            raise RegistryError(f"failed to register layer: {error}", again=False) from error

    @contextlib.asynccontextmanager
    async def _folder(self) -> AsyncIterator[Path]:
        folder = self._owner.spool / f"pull-{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700, parents=True)
        try:
            yield folder
        finally:
            await to_the_end(asyncio.to_thread(remove_tree, folder))

    async def _unpack(self, download: Download) -> None:
        meter = Meter(self._post, "Extracting", self._identity, download.done)
        with await asyncio.to_thread(download.path.open, "rb") as file:
            source = CountedFile(file.read, meter)
            await self._staging.unpack_file(
                OwnThreads(), download.path, download.digest, source, source.abort, self.diff_id, is_known=False
            )

    async def _download(self, download: Download) -> None:
        meter = Meter(self._post, "Downloading", self._identity, download.size)
        attempt = 1
        while True:
            before = download.done
            try:
                await in_call(lambda: self._repository.fetch(download, meter))
                self._say(action("Verifying Checksum", self._identity))
                return
            except RegistryError as error:
                if not error.again:
                    raise
                if download.done - before >= _GAIN:
                    attempt = 1
                    continue
                if attempt >= ATTEMPTS:
                    raise
            for left in range(attempt * RETRY_S, 0, -1):
                self._say(action(f"Retrying in {left} second{'s' if left != 1 else ''}", self._identity))
                await asyncio.sleep(1)
            attempt += 1
