"""The images domain: loads, names and removes images."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import hashlib
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from coved.errors import EngineError, InvalidParameter, NotFound
from coved.events import Events
from coved.filters import Filters
from coved.finishing import to_the_end
from coved.images import platforms, reference, removal, selection
from coved.images.arrivals import Added, Arrival, Arrivals
from coved.images.catalog import Catalog, Gone
from coved.images.compression import Source
from coved.images.documents import Platform
from coved.images.early import EarlyLayers
from coved.images.layers import LayerStore
from coved.images.loading import Loader, Progress
from coved.images.model import Image, Pruned, Removed, UsersOf
from coved.images.platforms import architecture
from coved.images.read_archive import Archive, ArchivedGroup
from coved.images.staging import Staging
from coved.images.streams import OwnThreads, ThreadStream, in_thread
from coved.store.blobs import BlobStore, DamagedBlob
from coved.store.database import Database
from coved.store.trees import remove_tree
from coved.times import rfc3339

if TYPE_CHECKING:
    from coved.images.adoption import Adopted, Tree
    from coved.images.export import Export
    from coved.images.write_archive import HeldArchive, SavedManifest

log = logging.getLogger(__name__)

_WORKERS = 8
_STARTER_LOADED = "starter loaded"


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
        self._arrivals = Arrivals(self._catalog, self._blobs, self._changing)
        # For what is on this machine; an upload has a thread of its own, which it holds for as long as its client takes.
        self._workers = ThreadPoolExecutor(_WORKERS, "images")
        self._starter: asyncio.Task[None] | None = None
        self.starter_archive: Path | None = None
        """Where the starter image is to be had again, if at all."""

    async def start(self, starter: Path) -> None:
        """Cleans up and, once in the life of a data directory, loads the starter image in the background."""
        # Of work that an engine of an earlier version was killed over, between a layer and its image, or of a build's.
        self._catalog.drop_layers()
        await asyncio.to_thread(self._clean)
        if not await asyncio.to_thread(starter.is_file):
            return
        self.starter_archive = starter
        if self._catalog.setting(_STARTER_LOADED) is None:
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

    def set_layer_users(self, users: Callable[[], Collection[str]]) -> None:
        """Registers who knows, by their diff ids, which layers are needed though no image may have them: they stay."""
        self._catalog.layer_users = users

    async def ready(self) -> None:
        """Waits for the starter image when it is being loaded; returns at once otherwise."""
        if self._starter is not None and not self._starter.done():
            await asyncio.wait([self._starter])

    # -- look-ups

    def get(self, reference: str, platform: Platform | None = None) -> Image:
        """By name, id or unambiguous beginning of an id; of several platforms this machine's, if none is asked for. Raises
        ``NotFound`` ("No such image: x")."""
        return self._catalog.find(reference, platform)

    def lower_dirs(self, image: Image) -> list[Path]:
        """Directories of the image's layers for overlayfs, topmost first; [] for an image without layers.

        A layer that is there twice, as the empty one is in many images, counts where it is topmost: overlayfs takes no
        directory twice, and all that the lower one has is hidden by the upper one.
        """
        return [self._layers.path(diff_id) for diff_id in dict.fromkeys(reversed(image.diff_ids))]

    def layer(self, diff_id: str) -> tuple[Path, int]:
        """A layer's directory, and the bytes in its files. Raises NotFound."""
        if diff_id not in self._catalog.layer_sizes:
            raise NotFound(f"No such layer: {diff_id}")
        return self._layers.path(diff_id), self._catalog.layer_sizes[diff_id]

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

    def users_of(self, image: Image) -> builtins.list[str]:
        """The ids of the containers that were created from an image."""
        return [user.container_id for user in self._users_of(image.id)]

    def platforms(self, image: Image) -> builtins.list[Image]:
        """The image and those for other platforms with the same names, this machine's first."""
        names = self._catalog.names(image.id)
        ids = self._catalog.holders(names[0]) if names else [image.id]
        found = [one for one in map(self._catalog.by_id, ids) if self._catalog.names(one.id) == names]
        return sorted(found, key=platforms.foreignness)

    def parent(self, image: Image) -> str:
        """The id of the image that one was made of here, by a commit; "" when there is none, or it is gone."""
        return self._catalog.parent(image.id)

    def layers_size(self) -> int:
        """Bytes in all layers together."""
        return sum(self._catalog.layer_sizes.values())

    def history(self, image: Image) -> builtins.list[dict[str, Any]]:
        """The image's history as the API gives it, newest first. Raises EngineError for one that is damaged."""
        ancestors, one = [], image.intact()
        while parent := self._catalog.parent(one.id):
            ancestors.append(one := self._catalog.by_id(parent))
        return selection.history(image, ancestors, self._catalog.layer_sizes)

    # -- coming

    async def load(
        self,
        chunks: AsyncIterator[bytes],
        report: Progress,
        *,
        quiet: bool = False,
        platform: Platform | None = None,
        names: Callable[[str], bool] | None = None,
    ) -> builtins.list[Image]:
        """Loads an image archive and gives the images that it held.

        Args:
            report: Told of progress in Docker's messages; not with ``quiet``, but for the names of what was loaded.
            platform: Takes nothing but images for this one.
            names: Given a canonical name, whether it is wanted; images with no such name are left out. None wants all.

        Raises ``InvalidParameter`` for a bad archive; what was complete before the error stays.
        """
        source = ThreadStream(chunks)
        async with self._spool_directory() as directory, self.receiving() as staging:
            async with contextlib.aclosing(
                EarlyLayers(self._catalog, staging, self._workers, None if quiet else report)
            ) as early:
                archive = Archive(directory, early.arrived)
                groups = await in_thread(OwnThreads(), lambda: _spool(source, archive, platform), source.abort)
                await early.settle()
            if names is not None:
                for group in groups:
                    group.names = [name for name in group.names if names(name)]
                groups = [group for group in groups if group.names]
            loader = Loader(self._catalog, self._arrivals, self._workers, self._event, report, quiet=quiet)
            return [image for group in groups for image in await loader.load(group, staging)]

    async def load_file(self, path: Path, report: Progress, names: Callable[[str], bool] | None = None) -> None:
        """Loads an archive of this machine, quietly. Raises OSError, and what ``load`` does."""
        with await asyncio.to_thread(path.open, "rb") as file:
            await self.load(_chunks(file), report, quiet=True, names=names)

    def receiving(self) -> Staging:
        """A place for layers on their way in, as an asynchronous context."""
        return Staging(self._layers, self._blobs)

    def lacks(self, arrival: Arrival, staging: Staging) -> builtins.list[int]:
        """Which of its layers, by position, are neither in the store nor in ``staging``."""
        return self._arrivals.lacks(arrival, staging)

    async def add(
        self, arrivals: Sequence[Arrival], staging: Staging, names: Sequence[str] = (), index: bytes = b""
    ) -> Added | None:
        """Adds images and names them; None when one of them lacks a layer. See ``Arrivals.add``."""
        return await self._arrivals.add(arrivals, staging, names, index)

    async def adopt(
        self, trees: Sequence[Tree], record: Callable[[builtins.list[Adopted]], object]
    ) -> builtins.list[Adopted]:
        """Makes overlays' upper directories layers. See ``Adoption.run``."""
        from coved.images.adoption import Adoption  # builds only

        return await Adoption(self._catalog, self._layers, self._blobs, self._changing, self._workers).run(
            trees, record
        )

    def recover(self, tree: Path) -> None:
        """Before ``start``: see ``LayerStore.recover``."""
        self._layers.recover(tree)

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
        from coved.images.changes import apply  # rare

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
        async with self.receiving() as staging:
            layer = await staging.unpack(OwnThreads(), source, source.abort)
            image = await self._make(document, [layer.diff_id], staging, name)
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
        base.intact()
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
        async with self.receiving() as staging:
            diff_ids = [*base.diff_ids]
            if source is not None:
                diff_ids.append((await staging.unpack(self._workers, source, abort)).diff_id)
            image = await self._make(document, diff_ids, staging, name)
        if self._catalog.has(image.id) and self._catalog.has(base.id):  # neither was removed meanwhile
            self._catalog.set_parent(image.id, base.id)
        if name:
            self._event("tag", image.id, reference.parse(name).familiar)
        return image

    async def back(self, base: Image, steps: int, name: str = "") -> Image:
        """Makes an image of ``base`` as it was that many steps of its history ago, and calls it ``name``, a canonical one.

        Raises InvalidParameter when it cannot go back so far.
        """
        from coved.images.earlier import earlier  # rare

        document = earlier(base.intact().config, steps)
        async with self.receiving() as staging:
            return await self._make(document, document["rootfs"]["diff_ids"], staging, name)

    async def assemble(self, documents: Sequence[dict[str, Any]], names: Sequence[str] = ()) -> Image:
        """Makes an image of layers that are here, one for each platform, and gives it canonical names.

        Args:
            documents: configurations with their ``rootfs``.

        Raises NotFound when a layer was removed meanwhile.
        """
        configs = [json.dumps(one, separators=(",", ":")).encode() for one in documents]
        ids = [f"sha256:{hashlib.sha256(config).hexdigest()}" for config in configs]
        if all(map(self._catalog.has, ids)) and all(self._catalog.holders(name) == ids for name in names):
            return self._catalog.by_id(ids[0])
        async with self.receiving() as staging:
            added = await self.add([Arrival(config) for config in configs], staging, names)
        if added is None:
            raise NotFound("a layer that the image is made of was removed meanwhile")
        for name in names:
            self._event("tag", added.images[0].id, reference.parse(name).familiar)
        return added.images[0]

    async def _make(self, document: dict[str, Any], diff_ids: Sequence[str], staging: Staging, name: str) -> Image:
        """An image of layers that are known or staged. Raises NotFound when it has lost some to a removal meanwhile."""
        document["rootfs"] = {"type": "layers", "diff_ids": [*diff_ids]}
        arrival = Arrival(json.dumps(document, separators=(",", ":")).encode())
        added = await self.add([arrival], staging, [name] if name else [])
        if added is None:
            raise NotFound("the image that this one is made of was removed meanwhile")
        return added.images[0]

    def tag(self, source: str, repository: str, tag: str = "") -> None:
        """Gives an image another name; raises ``NotFound`` or ``InvalidParameter``."""
        image = self.get(source)
        whole = self._catalog.name_of(source)
        ids, index = [image.id], ""
        if whole is not None:  # all its platforms
            ids, index = self._catalog.holders(whole), self._catalog.index_of(whole)
        if tag and not reference.is_tag(tag):
            raise InvalidParameter("invalid tag format")
        name = reference.parse(f"{repository}:{tag}" if tag else repository).tagged()
        if name.familiar_repository == "sha256":
            raise InvalidParameter("refusing to create an ambiguous tag using digest algorithm as name")
        if name.digest:
            raise InvalidParameter("refusing to create a tag with a digest reference")
        self._catalog.set_name(str(name), ids, index)
        self._event("tag", image.id, name.familiar)

    # -- leaving

    async def save(
        self, names: Sequence[str], platform: Platform | None = None, *, called: Sequence[str] = ()
    ) -> HeldArchive:
        """An archive of images, by names and ids, that ``load`` and other engines take. A repository without a tag stands for
        all its tags; several platforms of an image go all, unless one is asked for. The archive has its files whatever is
        removed meanwhile, and is to be closed.

        Args:
            called: canonical names that the image, which is one then, has in the archive instead of its own.

        Raises ``NotFound``, and whatever else can be known before the first byte, at once.
        """
        from coved.images.write_archive import HeldArchive, archive, documents_of  # rare

        async with self._changing:
            groups, paths = self._export().collect(names, platform)
            if called:
                groups[0].names[:] = called
            folder = self._spool / f"save-{secrets.token_hex(8)}"
            held = await asyncio.to_thread(_hold, folder, paths)
            for group in groups:
                for saved in group.images:
                    self._event("save", saved.image_id)
        return HeldArchive(archive(documents_of(groups), held), folder)

    def manifest(self, image: Image) -> SavedManifest:
        """The manifest that an image came with, or one made for it; for whoever takes the image elsewhere."""
        return self._export().manifest(image)

    async def packed(self, image: Image) -> SavedManifest:
        """The manifest to push an image by, whose layers are compressed: see ``Packer.pack``."""
        from coved.images.packing import Packer  # rare

        async with self.receiving() as staging:
            return await Packer(self._catalog, self._blobs, self._changing, self._workers).pack(image, staging)

    def blob(self, digest: str) -> Path:
        """The file of a blob that a manifest names. It goes with its image: link it or open it before anything is awaited."""
        return self._blobs.path(digest)

    def _export(self) -> Export:
        from coved.images.export import Export  # rare

        return Export(self._catalog, self._blobs)

    # -- going

    async def remove(
        self, text: str, *, force: bool = False, platforms: Sequence[Platform] = ()
    ) -> builtins.list[Removed]:
        """Takes a name from an image, and removes the image with its last one.

        Args:
            platforms: takes the name from the images for these, and leaves it to the others.

        Raises:
            NotFound: there is no such image.
            Conflict: containers need it, or it has several names; the text is dockerd's.
        """
        async with self._changing:
            if platforms:
                plan = removal.plan_platforms(self._catalog, self._users_of, text, force, platforms)
            else:
                plan = removal.plan(self._catalog, self._users_of, text, force)
            removed: list[Removed] = []
            for name, remaining in plan.kept.items():
                self._catalog.set_name(name, remaining, self._catalog.index_of(name))
            for name in plan.names:
                self._catalog.remove_name(name)
                removed.append(Removed(untagged=reference.parse(name).familiar))
                self._event("untag", plan.image_id)
            for image_id in plan.delete:
                removed += await self._delete(image_id)
            return removed

    async def remove_unused(self, image_id: str) -> None:
        """Removes an image by its whole id, unless it has a name by now, or containers, or is gone."""
        async with self._changing:
            if self._catalog.has(image_id) and not self._catalog.names(image_id) and not self._users_of(image_id):
                await self._delete(image_id)

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

    async def drop_layers(self, diff_ids: Collection[str]) -> None:
        """Removes those of these layers that neither an image nor anybody else needs."""

        async def work() -> None:
            async with self._changing:
                await self._remove_files(self._catalog.drop_layers(diff_ids))

        await to_the_end(work())

    async def _remove_files(self, gone: Gone) -> None:
        for blob in gone.blobs:
            await asyncio.to_thread(self._blobs.remove, blob.digest)
        for diff_id in gone.layers:
            await asyncio.to_thread(self._layers.remove, diff_id)

    async def _delete(self, image_id: str) -> builtins.list[Removed]:
        chain = removal.chain_ids(self._catalog.by_id(image_id).diff_ids)
        gone = self._catalog.remove(image_id)
        await self._remove_files(gone)
        self._event("delete", image_id)
        deleted = [chain[diff_id] for diff_id in gone.layers]
        return [Removed(deleted=image_id), *(Removed(deleted=one) for one in reversed(deleted))]

    # -- loading

    async def _load_starter(self, starter: Path) -> None:
        try:
            await self.load_file(starter, lambda _: None)
            self._catalog.set_setting(_STARTER_LOADED, "yes")
        except (EngineError, OSError) as error:
            log.error("the starter image %s cannot be loaded: %s", starter, error)

    @contextlib.asynccontextmanager
    async def _spool_directory(self) -> AsyncIterator[Path]:
        directory = self._spool / f"load-{secrets.token_hex(8)}"
        directory.mkdir(mode=0o700, parents=True)
        try:
            yield directory
        finally:
            # There may be many thousands of files in it.
            await to_the_end(asyncio.to_thread(remove_tree, directory))

    def _clean(self) -> None:
        remove_tree(self._spool)
        self._layers.clean()
        self._blobs.clean(self._catalog.is_blob)

    def _event(self, action: str, image_id: str, name: str = "") -> None:
        labels = self._catalog.by_id(image_id).labels if self._catalog.has(image_id) else {}
        self._events.publish("image", action, image_id, {**labels, "name": name or image_id})


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, 1024 * 1024):
        yield chunk


def _spool(source: ThreadStream, archive: Archive, platform: Platform | None) -> list[ArchivedGroup]:
    archive.spool(source)
    return archive.images(platform)


def _hold(folder: Path, paths: dict[str, Path]) -> dict[str, Path]:
    """Links to blobs, which stay when their images go. Raises ``DamagedBlob`` when one is missing."""
    folder.mkdir(mode=0o700, parents=True)
    held = {}
    try:
        for digest, path in paths.items():
            held[digest] = folder / path.name
            held[digest].hardlink_to(path)
    except FileNotFoundError:
        remove_tree(folder)
        raise DamagedBlob(f"blob {digest} is missing from the engine's store") from None
    except BaseException:
        remove_tree(folder)
        raise
    return held


def parse_name(repository: str, tag: str) -> str:
    """The name that a new image shall have, "" for none. Raises InvalidParameter."""
    if not repository:
        return ""
    name = reference.parse(f"{repository}:{tag}" if tag else repository)
    if name.digest:
        raise InvalidParameter("cannot import digest reference")
    return str(name.tagged())
