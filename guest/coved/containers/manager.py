"""The containers domain: what there is, creation and removal. Their life is in ``coved.containers.life``."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coved.containers import config, linked, modes, names, userns
from coved.containers.binds import Binds
from coved.containers.container import Container
from coved.containers.execs import Execs
from coved.containers.launcher import Launcher
from coved.containers.life import Life, attach_now
from coved.containers.mountpoints import MountPoint, collect, inherit
from coved.containers.proxies_and_certificates import ProxiesAndCertificates
from coved.containers.registry import Registry
from coved.containers.removals import Removals
from coved.containers.spec import Layout
from coved.errors import Conflict, EngineError, InvalidParameter, NotFound
from coved.events import Events
from coved.filters import Filters
from coved.images import Images, ImageUser, platforms
from coved.images.documents import Platform
from coved.networks import Networks, SandboxRequest
from coved.runtime.errors import NotRunning, RuntimeFailure
from coved.runtime.spawner_client import SpawnerClient
from coved.runtime.spec import Attachment
from coved.shares.shares import Shares
from coved.store.database import Database
from coved.times import parse_time_ns
from coved.volumes import Volumes
from coved.watching.watched import Watched

if TYPE_CHECKING:
    from coved.containers.stats import Stats

log = logging.getLogger(__name__)


class Containers:
    """Creates, runs and removes containers.

    Args:
        root: what outlives the machine; ``containers/<id>/`` is made in it.
        in_vm: paths that users give are those of another computer.
        userns_remap: which ids containers' ids are, as ``userns.parse`` takes it; "" for the machine's own.
    """

    def __init__(
        self,
        *,
        database: Database,
        events: Events,
        images: Images,
        volumes: Volumes,
        networks: Networks,
        spawner: SpawnerClient,
        root: Path,
        proxies_and_certificates: ProxiesAndCertificates,
        shares: Shares | None = None,
        watched: Watched | None = None,
        userns_remap: str = "",
    ) -> None:
        self._events = events
        self._images = images
        self._volumes = volumes
        self._networks = networks
        self._root = root / "containers"
        self._removals = Removals(root / "removed")
        self._registry = Registry(database)
        self.remap = userns.parse(userns_remap) if userns_remap else None
        self.binds = Binds(volumes, shares, watched)
        self._launcher = Launcher(
            self._root, images, volumes, networks, spawner, self._registry, proxies_and_certificates, self.binds,
            self.remap,
        )  # fmt: skip
        if shares is not None:
            shares.users = self._folders_used
            volumes.bind_within(shares)
        self.execs = Execs(events, self._launcher.linked, proxies_and_certificates)
        self._pruning = False
        self.life = Life(
            registry=self._registry,
            launcher=self._launcher,
            execs=self.execs,
            networks=networks,
            spawner=spawner,
            events=events,
            remove=self._remove,
        )

    # -- life of the engine

    async def start(self) -> None:
        """Finds the containers that outlived an earlier engine, notes the end of those that did not, applies restart policies."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o710)
        self._removals.start()
        self._registry.load()
        known = {container.id for container in self._registry}
        self._sweep(known)
        for id in self._volumes.made_in_vain(known):
            await self._volumes.give_up(id)
        self._make_folders()
        self._images.set_users(self._users_of)
        await self.life.restore()

    def _sweep(self, known: set[str]) -> None:
        """Removes the files of containers that an engine which was killed had begun to remove."""
        for path in self._root.iterdir():
            if path.name not in known:
                self._take_files(path)

    def _make_folders(self) -> None:
        """The record of a container lasts before its empty folder does: a machine that dies in between has lost only that."""
        for container in self._registry:
            try:
                Layout(self._root / container.id, ()).prepare()
            except OSError as error:
                log.warning("the folder of container %s cannot be made: %s", container.short_id, error)

    def _take_files(self, path: Path) -> None:
        try:
            self._removals.take(path)
        except OSError as error:
            # Nothing knows of them any more; the next start of the engine tries again.
            log.warning("the files of container %s stay for now: %s", path.name[:12], error)

    async def shutdown(self, timeout_s: float) -> None:
        """Stops all containers; returns after ``timeout_s`` seconds at the latest. Restart policies hold at the next start."""
        await self.life.shutdown(timeout_s)

    async def close(self) -> None:
        """Lets go of the shims; containers keep running."""
        await self.life.close()
        await self._removals.close()

    @functools.cached_property
    def stats(self) -> Stats:
        """What containers use, for those who watch."""
        from coved.containers.stats import Stats

        return Stats(self._registry, self._networks)

    # -- look-ups

    def get(self, reference: str) -> Container:
        """By id, name or unambiguous beginning of an id. Raises NotFound ("No such container: x")."""
        return self._registry.get(reference)

    def all(self) -> list[Container]:
        """All containers, newest first."""
        return sorted(self._registry, key=lambda container: container.created, reverse=True)

    def counts(self) -> dict[str, int]:
        """How many are running, paused and stopped."""
        states = [container.state.status for container in self._registry]
        running, paused = states.count("running"), states.count("paused")
        return {"running": running, "paused": paused, "stopped": len(states) - running - paused}

    def any_up(self) -> bool:
        """Whether one runs, paused or not, or is about to be started again by its policy."""
        return any(container.state.up for container in self._registry)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Calls back whenever a container's record has changed, or it has gone."""
        self._registry.changed = callback

    def layout(self, container: Container) -> Layout:
        """Where its files lie."""
        return self._launcher.layout(container)

    def files_folder(self, container: Container) -> Path:
        """Where its /etc/hosts and the like lie."""
        return self._launcher.files_folder(container)

    def log_path(self, container: Container) -> Path:
        return self._launcher.log_path(container)

    def exit_file(self, container: Container) -> Path:
        return self._launcher.exit_file(container)

    def network_settings(self, container: Container) -> dict[str, Any]:
        return self._networks.sandboxes.settings(container.id, self.network_request(container))

    def network_request(self, container: Container) -> SandboxRequest:
        """What it was created with."""
        return config.sandbox_request(container.name, container.request, container.host_config["NetworkMode"])

    def mount_source(self, mount: MountPoint) -> str:
        return self.binds.source(mount)

    async def watch_again(self) -> None:
        """What containers that run since before this engine have of the user's computer is watched, too."""
        for container in list(self._registry):
            if container.state.running:
                try:
                    await self.binds.begin_again(container.id, container.mounts, functools.partial(_runs, container))
                except (EngineError, OSError) as error:
                    log.warning("the folders of container %s are not watched: %s", container.short_id, error)

    def _folders_used(self) -> Iterator[tuple[str, str]]:
        """Names of containers that run, and what they have bound."""
        for container in self._registry:
            if container.state.running:
                yield from ((container.name, mount.source) for mount in container.mounts if mount.kind == "bind")
                devices = (self._volumes.device(mount.source) for mount in container.mounts if mount.kind == "volume")
                yield from ((container.name, device) for device in devices if device)

    def image_name(self, container: Container) -> str:
        """The name it was created by while that still means its image, else the image's id."""
        try:
            current = self._images.get(container.image_name).id
        except EngineError:
            current = ""
        return container.image_name if current == container.image_id else container.image_id

    def images_named(self, reference: str) -> list[str]:
        """Ids of the images that a filter by ancestor means: the image, and those that were made of it."""
        try:
            image = self._images.get(reference)
        except EngineError:
            return []
        layers = image.diff_ids
        return [
            one.id
            for one in self._images.list()
            if one.id == image.id or (layers and one.diff_ids[: len(layers)] == layers)
        ]

    def image_size(self, container: Container) -> int:
        """Bytes in the layers of its image."""
        return self._images.get(container.image_id).size

    async def size(self, container: Container) -> int:
        """Bytes that the container itself has written."""
        from coved.store.trees import tree_size

        return await asyncio.to_thread(tree_size, self._launcher.layout(container).upper)

    async def disk_usage(self) -> list[dict[str, Any]]:
        """The containers for ``GET /system/df``, as a list with sizes gives them."""
        from coved.containers import views

        return [await views.summary(self, container, size=True) for container in self.all()]

    def volumes_opened(self, container: Container) -> contextlib.AbstractAsyncContextManager[None]:
        """The volumes of a container that does not run, mounted for somebody who looks at its files."""
        return self._volumes.opened(mount.source for mount in container.mounts if mount.kind == "volume")

    # -- creation and removal

    async def create(self, name: str, body: Mapping[str, Any], platform: Platform | None = None) -> Container:
        """Makes a container of a create request's body. Raises InvalidParameter, NotFound (the image), Conflict."""
        reference = body.get("Image") or next((v for k, v in body.items() if k.lower() == "image"), "")
        if not isinstance(reference, str) or not reference:
            raise InvalidParameter("no image specified: Config.Image is empty")
        await self._images.ready()
        image = self._images.get(reference, platform).intact()
        name = self._registry.choose_name(name)
        request = config.parse(body, image.container_config)
        modes.settle(request.host, self.get)
        userns.check(self.remap, request.host)
        links = self._launcher.linked.requested(request.host)
        request.host["Links"] = None  # from now on they have names of their own
        how = await self.binds.reading(request.host)
        mounts = collect(request.config, request.host, self._inherited(request), **how)
        self._networks.sandboxes.check(config.sandbox_request(name, request, request.host["NetworkMode"]))
        if said := await self.binds.check(mounts):
            request = replace(request, warnings=(*request.warnings, *said))
        if platforms.foreignness(image) or image.platform.variant:
            from coved.images import processors  # few images are for other machines

            said = processors.warnings(image.platform, asked=platform is not None)
            request = replace(request, warnings=(*request.warnings, *said))
        container = Container(secrets.token_hex(32), name, image.id, reference, request, mounts, time.time_ns())
        if not request.config["Hostname"] and request.host["UTSMode"] != "host":
            shared = request.host["NetworkMode"] == "host"
            request.config["Hostname"] = os.uname().nodename if shared else container.short_id
        container.mounts = []
        try:
            for mount in mounts:
                container.mounts.append(await self._named(mount, container.id))
            self._launcher.layout(container).prepare()
            await self._launcher.populate(container)
            with self._registry.database.transaction():
                self._registry.choose_name(name)  # somebody may have been faster
                for mount in container.mounts:
                    if mount.kind == "volume":
                        self._volumes.acquire(mount.source, container.id)
                self._registry.add(container)
                self._registry.links.add(container.id, links)
        except BaseException:
            if container not in self._registry:
                self._take_files(self._root / container.id)
                await self._volumes.give_up(container.id)
            raise
        self._event(container, "create")
        return container

    def _inherited(self, request: config.Request) -> list[MountPoint]:
        result: list[MountPoint] = []
        for text in request.host["VolumesFrom"] or ():
            reference, _, mode = text.partition(":")
            if not reference:
                raise InvalidParameter('invalid name or ID supplied: ""')
            try:
                other = self.get(reference)
            except NotFound as error:  # as such docker's client would take it for the image, and pull that
                raise InvalidParameter(str(error)) from None
            result += inherit(other.mounts, mode)
        return result

    async def _named(self, mount: MountPoint, container_id: str) -> MountPoint:
        """A volume's mount with the volume there; a new anonymous one, which is the container's own, when it has no name."""
        if mount.kind == "image":
            return replace(mount, image_id=mount.image_id or self._images.get(mount.source).intact().id)
        if mount.kind != "volume":
            return mount
        anonymous = not mount.source if mount.anonymous is None else mount.anonymous
        volume = await self._volumes.create(
            mount.source, driver=mount.driver, labels=mount.labels, options=mount.driver_options,
            made_for=container_id if anonymous else "",
        )  # fmt: skip
        return replace(mount, source=volume.name, anonymous=anonymous)

    async def remove(self, reference: str, *, force: bool = False, volumes: bool = False) -> None:
        """Removes a container. Raises NotFound, Conflict when it runs and ``force`` is not given."""
        container = self.get(reference)
        if container.state.status == "removing":
            raise Conflict(f"removal of container {reference} is already in progress")
        await self._remove(container, volumes=volumes, reference=reference, force=force)

    def links(self, container: Container) -> list[str] | None:
        """As ``HostConfig.Links`` shows them."""
        return linked.shown(container, self._registry.links.of(container.id))

    def names(self, container: Container) -> list[str]:
        """Its name, and those that links give it; each begins with a slash."""
        return self._registry.names(container)

    def remove_link(self, name: str) -> None:
        """Takes away the link named ``container/alias``. Raises NotFound, EngineError for a container's own name."""
        self._launcher.linked.remove(name)

    async def _bring_down(self, container: Container, reference: str, *, force: bool) -> None:
        if not container.state.up:
            return
        if not force:
            advice = f"{container.state.status}: stop the container before removing or force remove"
            if container.state.status == "paused":
                advice = "paused and must be unpaused first"
            raise Conflict(f'cannot remove container "{reference}": container is {advice}')
        self.life.note_stop(container)
        await self.life.kill_and_wait(container)

    async def _remove(
        self, container: Container, *, volumes: bool = False, reference: str = "", force: bool = False
    ) -> None:
        while True:
            # Without the lock: what comes to its end may need it, to be removed or started again.
            if reference:
                await self._bring_down(container, reference, force=force)
            if (ending := _others_ending(container)) is not None:
                await asyncio.wait([ending])
            async with container.lock:
                if container.state.status == "removing":
                    return
                if _others_ending(container) is not None or (reference and container.state.up):
                    continue  # a start was faster than the lock
                status, container.state.status = container.state.status, "removing"
                try:
                    await self._take_away(container, volumes=volumes)
                except BaseException:
                    container.state.status = status
                    raise
                break
        self._event(container, "destroy")
        container.wake_removed()

    async def _take_away(self, container: Container, *, volumes: bool) -> None:
        container.pending.drop()
        await self._launcher.clear(container.id)
        await self._networks.sandboxes.forget(container.id)
        self.execs.forget(container.id)
        mounts = [mount for mount in container.mounts if mount.kind == "volume"]
        unneeded = mounts if volumes or container.host_config["AutoRemove"] else []
        with self._registry.database.transaction():
            for mount in mounts:
                self._volumes.release(mount.source, container.id)
            self._registry.remove(container)
            # Together with it: after an engine that is killed from here on, nothing would ever remove them.
            going = [mount.source for mount in unneeded if self._forget_volume(mount)]
        deleting = []
        for name in going:
            try:
                deleting.append(self._volumes.put_away(name))
            except OSError as error:
                log.warning("the files of volume %s stay for now: %s", name, error)
        async with container.files.urgently():
            self._take_files(self._root / container.id)
        await self._removals.make_room()
        for one in deleting:
            await one
        for mount in unneeded:
            if mount.source not in going and self._forget_volume(mount):  # its files were being copied until now
                await self._volumes.put_away(mount.source)

    def _forget_volume(self, mount: MountPoint) -> bool:
        """Whether it was an anonymous volume that nobody uses any more, and its record is removed."""
        try:
            if anonymous := self._volumes.get(mount.source).anonymous if mount.anonymous is None else mount.anonymous:
                self._volumes.forget(mount.source)
        except (Conflict, NotFound):
            return False
        return anonymous

    async def prune(self, filters: Filters) -> tuple[list[str], int]:
        """Removes containers that do not run; their ids and the bytes that they took. Raises InvalidParameter."""
        filters.validate({"label", "label!", "until"})
        if len(filters.get("until")) > 1:
            raise InvalidParameter("more than one until filter specified")
        until = next((parse_time_ns(text, now_ns=time.time_ns()) for text in filters.get("until")), None)
        if self._pruning:
            raise Conflict("a prune operation is already running")
        self._pruning = True
        removed, reclaimed = [], 0
        try:
            for container in self.all():
                if (
                    container.state.status in ("created", "exited", "dead")
                    and filters.matches_labels(container.config["Labels"])
                    and (until is None or container.created <= until)
                ):
                    size = await self.size(container)
                    if container.state.up or container.lock.locked():
                        continue  # somebody has started it meanwhile
                    await self._remove(container)
                    reclaimed += size
                    removed.append(container.id)
        finally:
            self._pruning = False
        self._events.publish("container", "prune", "", {"reclaimed": str(reclaimed)})
        return removed, reclaimed

    async def rename(self, reference: str, name: str) -> None:
        """The old name is free when this returns. Raises InvalidParameter, Conflict, NotFound."""
        if not name:
            raise InvalidParameter("Neither old nor new names may be empty")
        container = self.get(reference)
        if name.removeprefix("/") == container.name:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        try:
            names.validate(name if name.startswith("/") else f"/{name}")  # told with the slash, as dockerd does
            chosen = self._registry.choose_name(name)
        except EngineError as error:
            raise type(error)(f"Error when allocating new name: {error}") from None
        old = container.name
        self._registry.rename(container, chosen)
        await self._networks.sandboxes.rename(container.id, chosen)
        self._event(container, "rename", oldName=f"/{old}")

    async def update(self, reference: str, body: Mapping[str, Any]) -> list[str]:
        """Changes limits, of a running container too, and the restart policy; dockerd's warnings.

        Raises InvalidParameter, NotFound, Conflict, and EngineError for what the kernel refuses (nothing is changed then).
        """
        from coved.containers import limits, update

        wanted = update.parse(body)
        warnings = limits.check(wanted, update=True)
        container = self.get(reference)
        cannot = f"Cannot update container {container.id}"
        async with container.lock:
            if container.state.status in ("removing", "dead"):
                raise EngineError(f'{cannot}: container is marked for removal and cannot be "update"')
            before = container.host_config
            try:
                after = update.merge(before, wanted)
                if container.shim is not None and container.state.running:
                    await container.shim.update(update.changed(before, after))
            except Conflict as error:
                raise Conflict(f"{cannot}: {error}") from None
            except NotRunning:
                log.info("container %s has ended while it was updated", container.short_id)
            except RuntimeFailure as error:
                raise EngineError(f"{cannot}: {error}") from None
            container.host_config.update(after)
            self._registry.save(container)
        self._event(container, "update")
        return warnings

    async def top(self, reference: str, ps_args: str) -> dict[str, Any]:
        """Its processes as ``ps`` with these arguments shows them. Raises NotFound, Conflict, EngineError."""
        from coved.containers import top

        top.check_arguments(ps_args)
        container = self.get(reference)
        if container.state.status == "restarting":
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        if not container.state.running or container.shim is None:
            raise Conflict(f"container {container.id} is not running")
        told = await asyncio.to_thread(top.top, container.shim.cgroup, ps_args)
        self._event(container, "top")
        return told

    # -- talking

    async def resize(self, reference: str, height: int, width: int) -> None:
        container = self.get(reference)
        if not container.state.running or container.shim is None:
            raise Conflict(f"container {container.id} is not running")
        try:
            await container.shim.resize("", height, width)
        except RuntimeFailure as error:
            raise EngineError(f"cannot resize container {container.id}: {error}") from None
        self._event(container, "resize", height=str(height), width=str(width))

    async def attach(self, container: Container, attachment: Attachment) -> None:
        """Hands a client's connection to the container, or keeps it for the start. Takes over ``attachment.fd``.

        Raises Conflict when too many wait for the start.
        """
        if container.state.status == "removing":  # while the client was being answered
            os.close(attachment.fd)
            return
        if container.shim is None or container.starting:
            container.pending.add(container.id, attachment)
        else:
            await attach_now(container, attachment)
        self.tell_attached(container)

    def tell_attached(self, container: Container) -> None:
        self._event(container, "attach")

    def must_be_attachable(self, container: Container) -> None:
        """Raises Conflict in Docker's words."""
        if container.state.status == "paused":
            raise Conflict(f"container {container.id} is paused, unpause the container before attach")
        if container.state.status == "restarting":
            raise Conflict(f"container {container.id} is restarting, wait until the container is running")
        if container.shim is None or container.starting:
            container.pending.must_have_room(container.id)

    def _users_of(self, image_id: str) -> list[ImageUser]:
        return [
            ImageUser(one.id, one.state.running)
            for one in self._registry
            if one.image_id == image_id or any(mount.image_id == image_id for mount in one.mounts)
        ]

    def _event(self, container: Container, action: str, **attributes: str) -> None:
        self._events.publish("container", action, container.id, container.event_attributes(**attributes))


def _others_ending(container: Container) -> asyncio.Task[None] | None:
    """Its coming to its end, when that is under way and not what the caller itself is doing."""
    return container.ending if container.ending is not asyncio.current_task() else None


def _runs(container: Container) -> bool:
    return container.state.running
