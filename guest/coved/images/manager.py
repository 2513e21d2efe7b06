"""The images domain: loads, names and removes images."""

import asyncio
import builtins
import contextlib
import json
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from coved.errors import EngineError, InvalidParameter, NotFound
from coved.events import Events
from coved.filters import Filters
from coved.images import reference, removal, selection
from coved.images.archive import Archive, ArchivedImage, ArchivedLayer, parse_config
from coved.images.catalog import Catalog
from coved.images.compression import Source
from coved.images.layers import Layer, LayerStore
from coved.images.model import Image, Pruned, Removed, UsersOf
from coved.images.staging import Staging
from coved.images.streams import CountedFile, OwnThreads, ThreadStream, in_thread
from coved.store.blobs import BlobStore
from coved.store.database import Database
from coved.store.trees import remove_tree
from coved.times import rfc3339

log = logging.getLogger(__name__)

Progress = Callable[[dict[str, Any]], None]
"""Takes one JSON message of Docker's progress streams."""

_WORKERS = 8
_STARTER_LOADED = "starter loaded"
# Progress messages of one layer are no closer together than this.
_REPORT_BYTES = 512 * 1024

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


def architecture() -> str:
    """This machine's, by Go's name for it."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


class Images:
    """All methods belong to the event loop; unpacking happens in worker threads."""

    def __init__(self, database: Database, events: Events, root: Path) -> None:
        self._events = events
        self._spool = root / "tmp"
        self._blobs = BlobStore(root)
        self._catalog = Catalog(database, self._blobs)
        self._layers = LayerStore(root, lambda diff_id: diff_id in self._catalog.layer_sizes)
        self._users_of: UsersOf = lambda _: []
        self._changing = asyncio.Lock()
        # For what is on this machine; an upload has a thread of its own, which it holds for as long as its client takes.
        self._workers = ThreadPoolExecutor(_WORKERS, "images")
        self._starter: asyncio.Task[None] | None = None

    async def start(self, starter: Path) -> None:
        """Cleans up and, once in the life of a data directory, loads the starter image in the background."""
        await asyncio.to_thread(self._clean)
        if self._catalog.setting(_STARTER_LOADED) is None and await asyncio.to_thread(starter.is_file):
            self._starter = asyncio.get_running_loop().create_task(self._load_starter(starter))

    async def close(self) -> None:
        """Ends background work."""
        if self._starter is not None:
            self._starter.cancel()
            await asyncio.gather(self._starter, return_exceptions=True)
        self._workers.shutdown(wait=False, cancel_futures=True)

    def set_users(self, users_of: UsersOf) -> None:
        """Registers who knows which containers need an image."""
        self._users_of = users_of

    async def ready(self) -> None:
        """Waits for the starter image when it is being loaded; returns at once otherwise."""
        if self._starter is not None and not self._starter.done():
            await asyncio.wait([self._starter])

    # -- look-ups

    def get(self, reference: str) -> Image:
        """By name, id or unambiguous beginning of an id; raises ``NotFound`` ("No such image: x")."""
        return self._catalog.find(reference)

    def lower_dirs(self, image: Image) -> list[Path]:
        """Directories of the image's layers for overlayfs, topmost first; [] for an image without layers."""
        return [self._layers.path(diff_id) for diff_id in reversed(image.diff_ids)]

    def list(self, filters: Filters | None = None) -> list[Image]:
        """Images that meet the filters before, dangling, label, reference, since and until; newest first."""
        return selection.select(self._catalog, filters or Filters())

    def shared_size(self, image: Image) -> int:
        """Bytes in layers that other images have as well."""
        others = {diff_id for other in self._catalog.all() if other.id != image.id for diff_id in other.diff_ids}
        return sum(self._catalog.layer_sizes[one] for one in image.diff_ids if one in others)

    def containers_of(self, image: Image) -> int:
        """How many containers were created from an image."""
        return len(self._users_of(image.id))

    def layers_size(self) -> int:
        """Bytes in all layers together."""
        return sum(self._catalog.layer_sizes.values())

    def history(self, image: Image) -> builtins.list[dict[str, Any]]:
        """The image's history as the API gives it, newest first."""
        return selection.history(image, self._catalog.layer_sizes)

    # -- coming

    async def load(
        self, chunks: AsyncIterator[bytes], report: Progress, *, quiet: bool = False
    ) -> builtins.list[Image]:
        """Loads an image archive and gives the images that it held.

        Args:
            report: Told of progress in Docker's messages; not with ``quiet``, but for the names of what was loaded.

        Raises ``InvalidParameter`` for a bad archive; what was complete before the error stays.
        """
        source = ThreadStream(chunks)
        with self._spool_directory() as directory:
            archived = await in_thread(OwnThreads(), lambda: _spool(source, directory), source.abort)
            uses = Counter(layer.path for image in archived for layer in set(image.layers))
            async with Staging(self._layers) as staging:
                return [await self._add(image, uses, staging, report, quiet) for image in archived]

    async def import_(
        self,
        chunks: AsyncIterator[bytes],
        *,
        repository: str = "",
        tag: str = "",
        message: str = "",
        changes: builtins.list[str] | None = None,
        platform: str = "",
    ) -> Image:
        """Makes an image of one layer from the archive of a root file system.

        Args:
            changes: Dockerfile instructions that set defaults, such as ``CMD ["sh"]``.
            platform: ``os[/architecture]``; empty means this machine's.

        Raises ``InvalidParameter`` for a bad archive, name or change.
        """
        from coved.images import platforms  # rare
        from coved.images.changes import apply

        wanted = platforms.parse(platform) if platform else ("", "", "")
        name = parse_name(repository, tag)
        config: dict[str, Any] = {}
        apply(config, changes or [])
        created = rfc3339(time.time_ns())
        document: dict[str, Any] = {
            "architecture": wanted[1] or architecture(),
            "config": config,
            "created": created,
            "history": [{"created": created, "comment": message}],
            "os": wanted[0] or "linux",
        }
        source = ThreadStream(chunks)
        async with Staging(self._layers) as staging:
            layer = await staging.unpack(OwnThreads(), source, source.abort)
            image = await self._make(document, (), layer, staging, name)
        self._event("import", image.id)
        return image

    async def derive(
        self,
        base: Image,
        source: Source | None,
        abort: Callable[[], None],
        *,
        config: dict[str, Any],
        created_by: str = "",
        comment: str = "",
        author: str = "",
        name: str = "",
    ) -> Image:
        """Makes an image of ``base`` and one layer more, if any.

        Args:
            source: the layer's archive, read in a worker thread until ``abort`` is called; None adds no layer.
            name: what the image shall be called, as ``parse_name`` gives it.
        """
        created = rfc3339(time.time_ns())
        entry: dict[str, Any] = {
            "created": created, "created_by": created_by, "comment": comment, "author": author,
            "empty_layer": source is None,
        }  # fmt: skip
        document = {
            **base.config,
            "author": author,
            "config": config,
            "created": created,
            "history": [*(base.config.get("history") or []), {key: value for key, value in entry.items() if value}],
        }
        async with Staging(self._layers) as staging:
            layer = None if source is None else await staging.unpack(self._workers, source, abort)
            image = await self._make(document, base.diff_ids, layer, staging, name)
        if name:
            self._event("tag", image.id, reference.parse(name).familiar)
        return image

    async def _make(
        self, document: dict[str, Any], below: Sequence[str], top: Layer | None, staging: Staging, name: str
    ) -> Image:
        """An image of the layers ``below`` and ``top``. Raises NotFound when it has lost them to a removal meanwhile."""
        diff_ids = [*below, *([] if top is None else [top.diff_id])]
        document["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
        data = json.dumps(document, separators=(",", ":")).encode()
        parse_config(data)
        async with self._changing:
            if any(diff_id not in self._catalog.layer_sizes for diff_id in below):
                raise NotFound("the image that this one is made of was removed meanwhile")
            if top is not None:
                await self._take_over(staging, [top.diff_id])
            image = self._catalog.add(self._blobs.put(data), diff_ids)
            if name:
                self._catalog.set_name(name, image.id)
            return self._catalog.by_id(image.id)

    async def _take_over(self, staging: Staging, diff_ids: Iterable[str]) -> None:
        for diff_id in diff_ids:
            if diff_id not in self._catalog.layer_sizes:
                self._catalog.add_layer(await staging.take_over(diff_id))

    def tag(self, source: str, repository: str, tag: str = "") -> None:
        """Gives an image another name; raises ``NotFound`` or ``InvalidParameter``."""
        image = self.get(source)
        if tag and not reference.is_tag(tag):
            raise InvalidParameter("invalid tag format")
        name = reference.parse(f"{repository}:{tag}" if tag else repository).tagged()
        if name.familiar_repository == "sha256":
            raise InvalidParameter("refusing to create an ambiguous tag using digest algorithm as name")
        if name.digest:
            raise InvalidParameter("refusing to create a tag with a digest reference")
        self._catalog.set_name(str(name), image.id)
        self._event("tag", image.id, name.familiar)

    # -- going

    async def remove(self, text: str, *, force: bool = False) -> builtins.list[Removed]:
        """Takes a name from an image, and removes the image with its last one.

        Raises:
            NotFound: there is no such image.
            Conflict: containers need it, or it has several names; the text is dockerd's.
        """
        async with self._changing:
            plan = removal.plan(self._catalog, self._users_of, text, force)
            removed: list[Removed] = []
            for name in plan.names:
                self._catalog.remove_name(name)
                removed.append(Removed(untagged=reference.parse(name).familiar))
                self._event("untag", plan.image_id)
            if plan.delete:
                removed += await self._delete(plan.image_id)
            return removed

    async def prune(self, filters: Filters | None = None) -> Pruned:
        """Removes images that no container needs: those without a name, or all with the filter ``dangling=false``."""
        filters = filters or Filters()
        filters.validate({"dangling", "label", "label!", "until"})
        only_dangling = filters.flag("dangling", default=True)
        pruned = Pruned()
        before = self.layers_size()
        async with self._changing:
            for image in selection.prunable(self._catalog, filters, only_dangling):
                if self._users_of(image.id):
                    continue
                pruned.removed.extend(
                    Removed(untagged=reference.parse(name).familiar) for name in self._catalog.names(image.id)
                )
                pruned.removed.extend(await self._delete(image.id))
        reclaimed = before - self.layers_size()
        self._events.publish("image", "prune", "", {"reclaimed": str(reclaimed)})
        return Pruned(pruned.removed, reclaimed)

    async def _delete(self, image_id: str) -> builtins.list[Removed]:
        chain = removal.chain_ids(self._catalog.by_id(image_id).diff_ids)
        unused = self._catalog.remove(image_id)
        self._blobs.remove(image_id)
        for diff_id in unused:
            await asyncio.to_thread(self._layers.remove, diff_id)
        self._event("delete", image_id)
        deleted = [chain[diff_id] for diff_id in unused]
        return [Removed(deleted=image_id), *(Removed(deleted=one) for one in reversed(deleted))]

    # -- loading

    async def _add(
        self, archived: ArchivedImage, uses: Counter[Path], staging: Staging, report: Progress, quiet: bool
    ) -> Image:
        diff_ids = [layer.diff_id for layer in archived.layers]
        while True:
            for layer in archived.layers:
                if layer.diff_id not in self._catalog.layer_sizes and layer.diff_id not in staging:
                    await self._unpack(layer, staging, None if quiet else report)
                    if uses[layer.path] == 1:  # for big images the room counts
                        layer.path.unlink()
            async with self._changing:
                # What another image had a moment ago may have gone with it, and is unpacked after all.
                if all(diff_id in self._catalog.layer_sizes or diff_id in staging for diff_id in diff_ids):
                    await self._take_over(staging, diff_ids)
                    await asyncio.to_thread(self._blobs.put, archived.config)
                    image = self._catalog.add(archived.id, diff_ids)
                    self._name_loaded(archived, image, report)
                    return self._catalog.by_id(image.id)

    def _name_loaded(self, archived: ArchivedImage, image: Image, report: Progress) -> None:
        for name in archived.names:
            familiar = reference.parse(name).familiar
            previous = self._catalog.named(name)
            if previous not in (None, image.id):
                report(
                    {
                        "stream": f"The image {familiar} already exists, renaming the old one with ID {previous} "
                        "to empty string\n"
                    }
                )
            self._catalog.set_name(name, image.id)
            report({"stream": f"Loaded image: {familiar}\n"})
            self._event("tag", image.id, familiar)
        if not archived.names:
            report({"stream": f"Loaded image ID: {image.id}\n"})
        self._event("load", image.id)

    async def _unpack(self, layer: ArchivedLayer, staging: Staging, report: Progress | None) -> None:
        loop = asyncio.get_running_loop()
        total = (await asyncio.to_thread(layer.path.stat)).st_size
        short_id = layer.diff_id.removeprefix("sha256:")[:12]
        reported = 0

        def count(done: int) -> None:
            nonlocal reported
            if report is not None and (done - reported >= _REPORT_BYTES or done == total):
                reported = done
                detail = {"current": done, "total": total}
                message = {"status": "Loading layer", "progressDetail": detail, "id": short_id}
                loop.call_soon_threadsafe(report, message)

        with await asyncio.to_thread(layer.path.open, "rb") as file:
            source = CountedFile(file.read, count)
            await staging.unpack(self._workers, source, source.abort, layer.diff_id)

    async def _load_starter(self, starter: Path) -> None:
        try:
            with await asyncio.to_thread(starter.open, "rb") as file:
                await self.load(_chunks(file), lambda _: None, quiet=True)
            self._catalog.set_setting(_STARTER_LOADED, "yes")
        except (EngineError, OSError) as error:
            log.error("the starter image %s cannot be loaded: %s", starter, error)

    @contextlib.contextmanager
    def _spool_directory(self) -> Iterator[Path]:
        directory = self._spool / f"load-{secrets.token_hex(8)}"
        directory.mkdir(mode=0o700, parents=True)
        try:
            yield directory
        finally:
            remove_tree(directory)

    def _clean(self) -> None:
        remove_tree(self._spool)
        self._layers.clean()
        self._blobs.clean(self._catalog.has)

    def _event(self, action: str, image_id: str, name: str = "") -> None:
        labels = self._catalog.by_id(image_id).labels if self._catalog.has(image_id) else {}
        self._events.publish("image", action, image_id, {**labels, "name": name or image_id})


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, 1024 * 1024):
        yield chunk


def _spool(source: ThreadStream, directory: Path) -> list[ArchivedImage]:
    archive = Archive(directory)
    archive.spool(source)
    return archive.images(architecture())


def parse_name(repository: str, tag: str) -> str:
    """The name that a new image shall have, "" for none. Raises InvalidParameter."""
    if not repository:
        return ""
    name = reference.parse(f"{repository}:{tag}" if tag else repository)
    if name.digest:
        raise InvalidParameter("cannot import digest reference")
    return str(name.tagged())
