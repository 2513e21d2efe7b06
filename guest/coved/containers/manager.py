"""The containers domain: creation, life and removal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coved.containers import config, modes, signals, userns
from coved.containers.container import Container, State, ended
from coved.containers.execs import Execs
from coved.containers.mountpoints import MountPoint, collect
from coved.containers.registry import Registry
from coved.containers.starter import Starter
from coved.errors import Conflict, EngineError, InvalidParameter, NotFound, NotModified
from coved.events import Events
from coved.filters import Filters
from coved.images import Images, ImageUser
from coved.networks import Networks
from coved.runtime.client import SpawnerClient
from coved.runtime.errors import NotRunning, RuntimeFailure, StartError
from coved.runtime.spec import Attachment, Exit
from coved.store.database import Database
from coved.store.trees import remove_tree
from coved.times import parse_time_ns
from coved.volumes import Volumes

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10
KILLED = 137
BOOT_POLICIES = ("always", "unless-stopped")
RESTART_FIRST_S, RESTART_MAX_S, RESTART_RESET_S = 0.1, 60.0, 10


class Containers:
    """Creates, runs and removes containers.

    Args:
        root: what outlives the machine; ``containers/<id>/`` is made in it.
        state: what ends with the machine's boot.
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
        state: Path,
        userns_remap: str = "",
    ) -> None:
        self._events = events
        self._images = images
        self._volumes = volumes
        self._networks = networks
        self._spawner = spawner
        self._root = root / "containers"
        self._registry = Registry(database)
        self.remap = userns.parse(userns_remap) if userns_remap else None
        self._starter = Starter(self._root, images, volumes, networks, spawner, self._registry, self.remap)
        self.execs = Execs(events)
        self._shutting_down = False
        self._tasks: set[asyncio.Task[None]] = set()

    # -- life of the engine

    async def start(self) -> None:
        """Finds the containers that outlived an earlier engine, notes the end of those that did not, applies restart policies."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o710)
        self._registry.load()
        self._images.set_users(self._users_of)
        for container in self._registry:
            if container.state.running:
                container.shim = await self._spawner.reconnect(container.id)
        alive = [container.id for container in self._registry if container.shim is not None]
        await self._networks.start(alive)
        for container in self._registry:
            if container.shim is not None:
                self._watch(container)
            elif container.state.status in ("running", "paused", "restarting"):
                self._note_missed_end(container)
                if container.host["AutoRemove"]:
                    await self._remove(container)
                elif self._wants_restart(container, after_boot=True):
                    self._restart_later(container, 0.0)
            elif container.state.status == "removing":
                await self._remove(container)
            elif (
                container.state.status == "exited"  # with the machine, or while the engine was down
                and container.host["RestartPolicy"]["Name"] in BOOT_POLICIES
                and self._wants_restart(container, after_boot=True)
            ):
                self._restart_later(container, 0.0)

    def _note_missed_end(self, container: Container) -> None:
        # The shim writes the exit file before anyone is told; without one the machine died under the container.
        from coved.runtime import exitfile

        ended(container.state, exitfile.read(str(self.exit_file(container))) or Exit(KILLED, False, time.time_ns()))
        self._registry.save(container)

    async def shutdown(self, timeout_s: float) -> None:
        """Stops all containers, at most for ``timeout_s`` seconds; their restart policies hold at the next start."""
        self._shutting_down = True
        for container in self._registry:
            if container.restarting is not None:
                container.restarting.cancel()
        running = [container for container in self._registry if container.state.running]
        await asyncio.gather(*(self._end(one, max(0.5, timeout_s - 2)) for one in running), return_exceptions=True)

    async def close(self) -> None:
        """Lets go of the shims; containers keep running."""
        self._shutting_down = True
        for container in self._registry:
            if container.restarting is not None:
                container.restarting.cancel()
            if container.ending is not None:
                await asyncio.gather(container.ending, return_exceptions=True)
            if container.shim is not None:
                container.shim.close()

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

    def directory(self, container: Container) -> Path:
        return self._starter.layout(container).directory

    def log_path(self, container: Container) -> Path:
        return self._starter.log_path(container)

    def exit_file(self, container: Container) -> Path:
        return self._starter.exit_file(container)

    def network_settings(self, container: Container) -> dict[str, Any]:
        return self._networks.settings(
            container.id, config.sandbox_request(container.name, container.request, container.host["NetworkMode"])
        )

    def mount_source(self, mount: MountPoint) -> str:
        return self._starter.source(mount)

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

        return await asyncio.to_thread(tree_size, self._starter.layout(container).upper)

    async def disk_usage(self) -> list[dict[str, Any]]:
        """The containers for ``GET /system/df``, as a list with sizes gives them."""
        from coved.containers import views

        return [await views.summary(self, container, size=True) for container in self.all()]

    # -- creation and removal

    async def create(self, name: str, body: Mapping[str, Any]) -> Container:
        """Makes a container of a create request's body. Raises InvalidParameter, NotFound (the image), Conflict."""
        reference = body.get("Image") or next((v for k, v in body.items() if k.lower() == "image"), "")
        if not isinstance(reference, str) or not reference:
            raise InvalidParameter("no image specified: Config.Image is empty")
        name = self._registry.choose_name(name)
        await self._images.ready()
        image = self._images.get(reference)
        request = config.parse(body, image.container_config)
        modes.settle(request.host, self.get)
        userns.check(self.remap, request.host)
        mounts = collect(request.config, request.host, self._inherited(request))
        config.sandbox_request(name, request, request.host["NetworkMode"])
        container = Container(secrets.token_hex(32), name, image.id, reference, request, mounts, time.time_ns())
        if not request.config["Hostname"] and request.host["UTSMode"] != "host":
            shared = request.host["NetworkMode"] == "host"
            request.config["Hostname"] = os.uname().nodename if shared else container.short_id
        container.mounts = [await self._named(mount) for mount in mounts]
        self._starter.layout(container).prepare()
        try:
            with self._registry.database.transaction():
                self._registry.choose_name(name)  # somebody may have been faster
                for mount in container.mounts:
                    if mount.kind == "volume":
                        self._volumes.acquire(mount.source, container.id)
                self._registry.add(container)
        except BaseException:
            await asyncio.to_thread(remove_tree, self.directory(container))
            raise
        self._event(container, "create")
        return container

    def _inherited(self, request: config.Request) -> list[MountPoint]:
        from dataclasses import replace

        result = []
        for text in request.host["VolumesFrom"] or ():
            reference, _, mode = text.partition(":")
            for mount in self.get(reference).mounts:
                if mount.kind != "tmpfs":
                    result.append(replace(mount, writable=mount.writable and mode != "ro"))
        return result

    async def _named(self, mount: MountPoint) -> MountPoint:
        """A volume's mount with the volume there; a new anonymous one when it has no name."""
        from dataclasses import replace

        if mount.kind != "volume":
            return mount
        with contextlib.suppress(NotFound):
            if mount.source:
                self._volumes.get(mount.source)
                return mount
        volume = await self._volumes.create(mount.source, driver="", labels={}, options={})
        return replace(mount, source=volume.name)

    async def remove(self, reference: str, *, force: bool = False, volumes: bool = False) -> None:
        """Removes a container. Raises NotFound, Conflict when it runs and ``force`` is not given."""
        container = self.get(reference)
        if container.state.status == "removing":
            raise Conflict(f"removal of container {reference} is already in progress")
        if container.state.running or container.state.status == "restarting":
            if not force:
                what = {"paused": "paused", "restarting": "restarting"}.get(container.state.status, "running")
                advice = "stop the container before removing or force remove"
                raise Conflict(f'cannot remove container "/{container.name}": container is {what}: {advice}')
            container.stopped_by_user = True
            if container.restarting is not None:
                container.restarting.cancel()
            await self._kill_and_wait(container)
        await self._remove(container, volumes=volumes)

    async def _remove(self, container: Container, *, volumes: bool = False) -> None:
        async with container.lock:
            if container.ending is not None and container.ending is not asyncio.current_task():
                await asyncio.shield(container.ending)
            if container.state.status == "removing":
                return
            container.state.status = "removing"
            self._drop_pending(container)
            await self._networks.forget(container.id)
            self.execs.forget(container.id)
            with self._registry.database.transaction():
                for mount in container.mounts:
                    if mount.kind == "volume":
                        self._volumes.release(mount.source, container.id)
                self._registry.remove(container)
            await asyncio.to_thread(remove_tree, self.directory(container))
            for mount in container.mounts:
                if mount.kind == "volume" and (volumes or container.host["AutoRemove"]):
                    await self._drop_volume(mount.source)
        self._event(container, "destroy")
        container.wake_removed(container.state.exit_code)

    async def _drop_volume(self, name: str) -> None:
        with contextlib.suppress(EngineError):  # another container uses it, or it is gone
            if self._volumes.get(name).anonymous:
                await self._volumes.remove(name)

    async def prune(self, filters: Filters) -> tuple[list[str], int]:
        """Removes containers that do not run; their ids and the bytes that they took. Raises InvalidParameter."""
        filters.validate({"label", "label!", "until"})
        until = min((parse_time_ns(text, now_ns=time.time_ns()) for text in filters.get("until")), default=None)
        removed, reclaimed = [], 0
        for container in self.all():
            idle = container.state.status in ("created", "exited", "dead")
            if (
                idle
                and filters.matches_labels(container.config["Labels"])
                and (until is None or container.created < until)
            ):
                reclaimed += await self.size(container)
                await self._remove(container)
                removed.append(container.id)
        return removed, reclaimed

    async def rename(self, reference: str, name: str) -> None:
        """Raises InvalidParameter, Conflict, NotFound."""
        container = self.get(reference)
        if not name.removeprefix("/"):
            raise InvalidParameter("Neither old nor new names may be empty")
        old = container.name
        self._registry.rename(container, self._registry.choose_name(name))
        self._event(container, "rename", oldName=f"/{old}")

    # -- running

    async def start_container(self, reference: str) -> None:
        """Starts it; published ports answer when this returns.

        Raises NotFound, NotModified (it runs), Conflict, InvalidParameter and EngineError with Docker's texts.
        """
        container = self.get(reference)
        if container.state.running:
            if container.state.status == "paused":
                raise Conflict("cannot start a paused container, try unpause instead")
            raise NotModified("container already started")
        if container.restarting is not None:
            container.restarting.cancel()
        container.stopped_by_user = False
        container.restart_delay = 0.0
        container.state.restart_count = 0
        await self._start(container)

    async def _start(self, container: Container) -> None:
        if container.ending is not None:
            await asyncio.shield(container.ending)
        async with container.lock:
            if container.state.running:
                return
            if container.state.status == "removing":
                raise Conflict("container is marked for removal and cannot be started")
            pending, container.pending = container.pending, []
            try:
                await self._starter.start(container, pending, lambda id, exit: self._on_exit(container, id, exit))
            except (EngineError, RuntimeFailure) as error:
                raise await self._failed(container, error) from None
            finally:
                for attachment in pending:
                    os.close(attachment.fd)
            self._registry.save(container)
        self._event(container, "start")

    async def _failed(self, container: Container, error: EngineError | RuntimeFailure) -> EngineError:
        """Tidy up after a start that did not succeed, and tell those who wait; the error to answer with."""
        code = error.exit_code if isinstance(error, StartError) else 128
        container.state = State(exit_code=code, error=str(error), restart_count=container.state.restart_count)
        await self._networks.close_sandbox(container.id)
        self._registry.save(container)
        container.wake(code)
        if container.host["AutoRemove"]:
            self._later(self._remove(container))
        if isinstance(error, EngineError):
            return error
        return InvalidParameter(str(error)) if isinstance(error, StartError) else EngineError(str(error))

    def _watch(self, container: Container) -> None:
        shim = container.shim
        if shim is not None:
            shim.on_exit(lambda id, exit: self._on_exit(container, id, exit))
            self.execs.adopt(container)

    def _on_exit(self, container: Container, process_id: str, exit: Exit) -> None:
        if process_id:
            self.execs.ended(container, process_id, exit)
        elif container.ending is None and container.shim is not None and container.shim.started:
            container.ending = self._later(self._ended(container, exit))

    async def _ended(self, container: Container, exit: Exit) -> None:
        """After init has ended: give back what it used, then tell everyone."""
        shim, container.shim = container.shim, None
        try:
            await self._networks.close_sandbox(container.id)
            if shim is not None:
                await shim.delete()
        except (EngineError, RuntimeFailure) as error:
            log.warning("tidying up after container %s: %s", container.short_id, error)
        ran = exit.exited_at_ns - container.state.started_at
        ended(container.state, exit)
        restart = self._wants_restart(container)
        if restart:
            container.state.status = "restarting"
        self._registry.save(container)
        if exit.oom_killed:
            self._event(container, "oom")
        self._event(container, "die", exitCode=str(exit.code), execDuration=str(max(ran, 0) // 1_000_000_000))
        container.ending = None
        container.wake(exit.code)
        if restart:
            if ran > RESTART_RESET_S * 1_000_000_000:
                container.restart_delay = 0.0
            container.restart_delay = min(max(2 * container.restart_delay, RESTART_FIRST_S), RESTART_MAX_S)
            self._restart_later(container, container.restart_delay)
        elif container.host["AutoRemove"] and not self._shutting_down:
            await self._remove(container)

    def _wants_restart(self, container: Container, *, after_boot: bool = False) -> bool:
        policy = container.host["RestartPolicy"]
        if self._shutting_down:
            return False
        if policy["Name"] == "always":
            return after_boot or not container.stopped_by_user
        if container.stopped_by_user:
            return False
        if policy["Name"] == "on-failure":
            limit = policy["MaximumRetryCount"]
            return container.state.exit_code != 0 and (not limit or container.state.restart_count < limit)
        return bool(policy["Name"] == "unless-stopped")

    def _restart_later(self, container: Container, delay_s: float) -> None:
        async def restart() -> None:
            await asyncio.sleep(delay_s)
            container.state.restart_count += 1
            try:
                await self._start(container)
            except EngineError as error:
                log.warning("restarting container %s: %s", container.short_id, error)
                container.state.status = "exited"
                self._registry.save(container)

        container.restarting = self._later(restart())

    async def stop(self, reference: str, *, timeout_s: int | None = None, signal_name: str = "") -> None:
        """Asks with the stop signal, and kills after the timeout (seconds; negative waits for ever). Raises NotFound, NotModified."""
        container = self.get(reference)
        if container.restarting is not None and container.state.status == "restarting":
            container.stopped_by_user = True
            container.restarting.cancel()
            container.state.status = "exited"
            self._registry.save(container)
            return
        if not container.state.running:
            raise NotModified("container already stopped")
        container.stopped_by_user = True
        await self._end(container, timeout_s, signal_name)
        self._event(container, "stop")

    async def _end(self, container: Container, timeout_s: float | None, signal_name: str = "") -> None:
        if timeout_s is None:
            configured = container.config["StopTimeout"]
            timeout_s = STOP_TIMEOUT_S if configured is None else configured
        number = signals.number(signal_name or container.config["StopSignal"] or "SIGTERM")
        if container.state.status == "paused":
            await self._call(container, "unpause")
        waiter = self._exit_waiter(container)
        await self._send(container, number)
        try:
            await asyncio.wait_for(waiter, None if timeout_s < 0 else timeout_s)
        except TimeoutError:
            await self._kill_and_wait(container)

    async def _kill_and_wait(self, container: Container) -> None:
        if container.ending is not None or container.state.running:
            waiter = self._exit_waiter(container)
            if container.state.running:
                await self._send(container, signal.SIGKILL, all=True)
            try:
                await asyncio.wait_for(waiter, 30)
            except TimeoutError:
                raise EngineError(
                    f"container {container.short_id} did not end within 30 s of SIGKILL; its processes wait in the kernel"
                ) from None

    def _exit_waiter(self, container: Container) -> asyncio.Future[int]:
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        container.exit_waiters.add(waiter)
        return waiter

    async def _send(self, container: Container, number: int, *, all: bool = False) -> None:
        if container.shim is None:
            return
        with contextlib.suppress(NotRunning):  # it has just ended; the waiter hears of it
            try:
                await container.shim.kill(number, all=all)
            except RuntimeFailure as error:
                if not isinstance(error, NotRunning):
                    raise EngineError(str(error)) from None
        self._event(container, "kill", signal=str(int(number)))

    async def kill(self, reference: str, signal_name: str = "") -> None:
        """Raises NotFound, InvalidParameter, Conflict when it does not run."""
        container = self.get(reference)
        number = signals.number(signal_name or "SIGKILL")
        if not container.state.running:
            raise Conflict(f"cannot kill container: {reference}: container {container.id} is not running")
        if number in (signal.SIGKILL, signal.SIGTERM) or number == signals.number(
            container.config["StopSignal"] or "TERM"
        ):
            container.stopped_by_user = True
        if number == signal.SIGKILL:
            await self._kill_and_wait(container)
        else:
            await self._send(container, number)

    async def restart(self, reference: str, *, timeout_s: int | None = None, signal_name: str = "") -> None:
        container = self.get(reference)
        with contextlib.suppress(NotModified):
            await self.stop(reference, timeout_s=timeout_s, signal_name=signal_name)
        with contextlib.suppress(NotModified):
            await self.start_container(container.id)
        self._event(container, "restart")

    async def pause(self, reference: str) -> None:
        container = self.get(reference)
        if container.state.status == "paused":
            raise Conflict(f"container {container.id} is already paused")
        self._must_run(container)
        await self._call(container, "pause")

    async def unpause(self, reference: str) -> None:
        container = self.get(reference)
        if container.state.status != "paused":
            raise Conflict(f"Container {container.id} is not paused")
        await self._call(container, "unpause")

    async def _call(self, container: Container, action: str) -> None:
        assert container.shim is not None
        try:
            await (container.shim.pause() if action == "pause" else container.shim.resume())
        except RuntimeFailure as error:
            raise EngineError(f"cannot {action} container {container.id}: {error}") from None
        container.state.status = "paused" if action == "pause" else "running"
        self._registry.save(container)
        self._event(container, action)

    async def resize(self, reference: str, height: int, width: int) -> None:
        container = self.get(reference)
        self._must_run(container)
        assert container.shim is not None
        try:
            await container.shim.resize("", height, width)
        except RuntimeFailure as error:
            raise EngineError(f"cannot resize container {container.id}: {error}") from None

    async def wait(self, reference: str, condition: str) -> asyncio.Future[int]:
        """Registers for ``not-running``, ``next-exit`` or ``removed``; the future gives the exit status."""
        container = self.get(reference)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if condition == "removed":
            container.removal_waiters.add(future)
        elif condition == "next-exit" or container.state.running or container.ending is not None:
            container.exit_waiters.add(future)
        else:
            future.set_result(container.state.exit_code)
        return future

    # -- talking

    async def attach(self, container: Container, attachment: Attachment) -> None:
        """Hands a client's connection to the container, or keeps it for the start. Takes over ``attachment.fd``."""
        if container.shim is None or container.lock.locked():
            container.pending.append(attachment)
        else:
            try:
                await container.shim.attach("", attachment)
            except RuntimeFailure as error:
                log.info("attaching to %s: %s", container.short_id, error)
            finally:
                os.close(attachment.fd)
        self._event(container, "attach")

    def must_be_attachable(self, container: Container) -> None:
        """Raises Conflict in Docker's words."""
        if container.state.status == "paused":
            raise Conflict(f"container {container.id} is paused, unpause the container before attach")
        if container.state.status == "restarting":
            raise Conflict(f"container {container.id} is restarting, wait until the container is running")

    def _must_run(self, container: Container) -> None:
        if not container.state.running or container.shim is None:
            raise Conflict(f"container {container.id} is not running")

    def _drop_pending(self, container: Container) -> None:
        for attachment in container.pending:
            os.close(attachment.fd)
        container.pending.clear()

    def _users_of(self, image_id: str) -> list[ImageUser]:
        return [ImageUser(one.id, one.state.running) for one in self._registry if one.image_id == image_id]

    def _later(self, coroutine: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a container's background work failed", exc_info=error)

    def _event(self, container: Container, action: str, **attributes: str) -> None:
        self._events.publish("container", action, container.id, container.event_attributes(**attributes))
