"""The life of containers: start, stop, signals and pauses. What happens at the end is in ``coved.containers.ending``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from coved.containers import restarts, signals
from coved.containers.container import Container, Waited
from coved.containers.ending import Endings, step, tell_volumes
from coved.containers.execs import Execs
from coved.containers.hints import with_hint
from coved.containers.launcher import Launcher
from coved.containers.probes import Probes
from coved.containers.registry import Registry
from coved.containers.survivors import Survivors
from coved.errors import (
    Conflict,
    EngineError,
    InvalidParameter,
    NotModified,
    StorageFull,
    Unavailable,
    no_memory,
    no_room,
)
from coved.events import Events
from coved.networks import Networks
from coved.runtime.errors import NotRunning, RuntimeFailure, StartError
from coved.runtime.spawner_client import SpawnerClient
from coved.runtime.spec import Attachment

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10
KILL_S = 30
LAST_S = 2.0
"""Seconds at the engine's end for what should take none."""
NOT_STARTED = 128


class Life:
    """Runs what the registry holds.

    Args:
        remove: takes an ended container away (``AutoRemove``).
    """

    def __init__(
        self,
        *,
        registry: Registry,
        launcher: Launcher,
        execs: Execs,
        networks: Networks,
        spawner: SpawnerClient,
        events: Events,
        remove: Callable[[Container], Coroutine[Any, Any, None]],
    ) -> None:
        self._registry = registry
        self._launcher = launcher
        self._execs = execs
        self._networks = networks
        self._spawner = spawner
        self._events = events
        self._remove = remove
        self._probes = Probes(registry, events, launcher.linked, launcher.proxies_and_certificates)
        self._survivors = Survivors(registry, spawner, lambda shim: launcher.discard(shim))
        self._endings = Endings(
            registry=registry,
            launcher=launcher,
            execs=execs,
            networks=networks,
            probes=self._probes,
            events=events,
            start_again=lambda container: self._start(container, by_policy=True),
            remove=remove,
        )

    # -- life of the engine

    async def restore(self) -> None:
        """Finds the containers that outlived an earlier engine, notes the end of those that did not, applies restart policies."""
        await self._survivors.find()
        alive = [container.id for container in self._registry if container.shim is not None]
        await self._networks.start(alive)
        await self._launcher.found(one for one in self._registry if one.shim is not None)
        due = []
        for container in self._registry:
            # What goes wrong with one must not keep the others, and all who would put it right, from their engine.
            if container.shim is not None:
                with step(container, "ending earlier health checks"):
                    await self._probes.sweep(container)
            with step(container, "taking it up"):
                if container.shim is not None:
                    self._endings.found(container)
                    if container.state.status == "running" and container.ending is None:
                        self._probes.begin(container)
                elif container.state.status == "removing":
                    await self._remove(container)
                elif await self._endings.take_up(container):
                    due.append(container)
        self._endings.start_first(due)

    async def settle(self, timeout_s: float) -> None:
        """Returns when what ``restore`` began has come to its end, or the time is over."""
        await self._endings.settle(timeout_s)

    async def shutdown(self, timeout_s: float) -> None:
        """Stops all containers; their restart policies hold at the next start.

        Returns after ``timeout_s`` seconds at the latest, whether they have ended or not: each has all but the last
        ``LAST_S`` of them (or half, when there are few) to end by itself, and the rest to end by SIGKILL.
        """
        self._endings.shut_down()
        own_s = max(timeout_s / 2, timeout_s - LAST_S)
        running = [container for container in self._registry if container.state.running]
        ends = {asyncio.get_running_loop().create_task(self._end(one, own_s)): one for one in running}
        if not ends:
            return
        try:
            done, late = await asyncio.wait(ends, timeout=timeout_s)
        finally:
            for task in ends:
                task.cancel()
        for task in late:
            log.warning("container %s did not end within %.0f s", ends[task].short_id, timeout_s)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.warning("stopping container %s: %s", ends[task].short_id, error)

    async def close(self) -> None:
        """Lets go of the shims; containers keep running.

        Those that are coming to their end have ``LAST_S`` seconds for it; the next engine finds the others' ends on record.
        """
        self._endings.shut_down()
        await self._probes.close()
        if ending := [container.ending for container in self._registry if container.ending is not None]:
            await asyncio.wait(ending, timeout=LAST_S)
        for container in self._registry:
            container.pending.drop()
            if container.shim is not None:
                container.shim.close()

    # -- start

    async def start(self, reference: str) -> None:
        """Starts it; published ports answer when this returns.

        Raises NotFound, NotModified (it runs), Conflict, InvalidParameter, Unavailable (the engine is ending) and EngineError
        with Docker's texts.
        """
        container = self._registry.get(reference)
        if container.state.status == "paused":
            raise Conflict("cannot start a paused container, try unpause instead")
        if container.state.up:
            raise NotModified("container is already running")
        self._must_go_on()
        await self._start_by_user(container)

    def _must_go_on(self) -> None:
        """Raises Unavailable: what is started now would not be stopped with the others."""
        if self._endings.shutting_down:
            raise Unavailable("the engine is shutting down and starts no containers")

    async def _start_by_user(self, container: Container) -> None:
        container.stopped_by_user = False
        container.state.restart_delay = 0.0
        container.state.restart_count = 0
        await self._start(container)

    async def _start(self, container: Container, *, by_policy: bool = False) -> None:
        if container.ending is not None:
            await asyncio.shield(container.ending)
        async with container.lock, container.files.urgently():
            if container.state.running:
                return
            if container.state.status == "removing":
                raise Conflict("container is marked for removal and cannot be started")
            if by_policy and (container.stopped_by_user or self._endings.shutting_down):
                return  # somebody was faster
            self._must_go_on()
            pending = container.pending.take()
            container.starting = True
            try:
                await self._launcher.start(
                    container, pending, lambda id, exit: self._endings.on_exit(container, id, exit)
                )
            except (EngineError, RuntimeFailure) as error:
                raise await self._failed(container, error, by_policy) from None
            except OSError as error:  # no room, say, for its files
                where = f"{error.filename}: " if error.filename else ""
                what = no_room(error) or no_memory(error) or f"{where}{error.strerror}"
                reason = EngineError(f"cannot start container {container.id}: {what}")
                raise await self._failed(container, reason, by_policy) from None
            finally:
                container.starting = container.restarted_by_user = False
                for attachment in pending:
                    os.close(attachment.fd)
            self._endings.watch(container)
            await _attach_late(container)
            if container.ending is None:
                self._probes.begin(container)
            # With a policy it is to run again after the machine's death; without one that has ended it in any case.
            self._registry.save(container, lasting=restarts.has_policy(container.host_config))
        tell_volumes(self._events, container, "mount")
        self._event(container, "start")

    async def _failed(self, container: Container, error: EngineError | RuntimeFailure, by_policy: bool) -> EngineError:
        """Tidy up after a start that did not succeed; the error to answer with."""
        state = container.state
        state.status = "exited" if state.started_at else "created"
        state.exit_code = error.exit_code if isinstance(error, StartError) else NOT_STARTED
        state.error = str(error) if isinstance(error, EngineError) else with_hint(str(error))
        container.pending.drop()
        await self._endings.not_started(container, by_policy)
        if isinstance(error, EngineError):
            return error
        return InvalidParameter(state.error) if isinstance(error, StartError) else EngineError(state.error)

    # -- stop, kill, restart

    async def stop(self, reference: str, *, timeout_s: int | None = None, signal_name: str = "") -> None:
        """Asks with the stop signal, and kills after the timeout (seconds; negative waits for ever). Raises NotFound, NotModified."""
        container = self._registry.get(reference)
        if not container.state.up:
            raise NotModified("container is already stopped")
        try:
            await self._stop(container, timeout_s, signal_name)
        except EngineError as error:
            raise EngineError(f"cannot stop container: {reference}: {error}") from None

    async def _stop(self, container: Container, timeout_s: int | None, signal_name: str) -> None:
        number = signals.number(signal_name) if signal_name else None
        container.stopped_by_user = True
        if await self._call_off_restart(container):
            self._event(container, "stop")
        elif container.state.running:
            self.note_stop(container)
            await self._end(container, timeout_s, number)
            self._event(container, "stop")

    def note_stop(self, container: Container) -> None:
        """That somebody stops it holds for the next engine, should this one be killed before the container has ended."""
        container.stopped_by_user = True
        if restarts.has_policy(container.host_config) and not container.restarted_by_user:
            with contextlib.suppress(StorageFull):  # which must not keep it from being stopped
                self._registry.save(container, lasting=False)

    async def _call_off_restart(self, container: Container) -> bool:
        """End a container that waits for its restart; False when it was not waiting (or is running by now)."""
        if container.state.status != "restarting":
            return False
        if container.restart_timer is not None:
            container.restart_timer.cancel()
            container.restart_timer = None
        async with container.lock:  # a start may be under way
            if container.state.status != "restarting":
                return False
            container.state.status = "exited"
            self._registry.save(container)
        container.wake()
        return True

    async def _end(self, container: Container, timeout_s: float | None, number: int | None = None) -> None:
        if timeout_s is None:
            configured = container.config["StopTimeout"]
            timeout_s = STOP_TIMEOUT_S if configured is None else configured
        waiter = self._exit_waiter(container)
        await self._send(container, number or _stop_signal(container))
        if container.state.status == "paused":  # the signal arrives when it is thawed
            await self.unfreeze(container)
        try:
            await asyncio.wait_for(waiter, None if timeout_s < 0 else timeout_s)
        except TimeoutError:
            await self.kill_and_wait(container)

    async def kill(self, reference: str, signal_name: str = "") -> None:
        """Sends a signal; SIGKILL returns when the container has ended.

        Raises NotFound, InvalidParameter, Conflict when it does not run.
        """
        try:
            number = signals.supported(signal_name) if signal_name else int(signal.SIGKILL)
            await self._kill(self._registry.get(reference), number)
        except EngineError as error:
            raise type(error)(f"cannot kill container: {reference}: {error}") from None

    async def _kill(self, container: Container, number: int) -> None:
        if not container.state.up:
            raise Conflict(f"container {container.id} is not running")
        # Without a stop signal of its own every signal may be meant as the end: dockerd's rule for restart policies.
        final = number == signal.SIGKILL or not container.config["StopSignal"] or number == _stop_signal(container)
        if final:
            container.stopped_by_user = True
            if await self._call_off_restart(container):
                return
        if number == signal.SIGKILL:
            self.note_stop(container)
            await self.kill_and_wait(container)
            return
        self._registry.save(container)
        await self._send(container, number)
        if final and container.state.status == "paused":
            await self.unfreeze(container)

    async def kill_and_wait(self, container: Container) -> None:
        """Returns when it has ended; nothing to do when it does not run. Raises EngineError."""
        if await self._call_off_restart(container):
            return
        if container.ending is not None or container.state.running:
            waiter = self._exit_waiter(container)
            if container.state.running:
                await self._send(container, signal.SIGKILL, all=True)
            try:
                await asyncio.wait_for(waiter, KILL_S)
            except TimeoutError:
                raise EngineError(
                    f"container {container.short_id} did not end within {KILL_S} s of SIGKILL;"
                    " its processes wait in the kernel"
                ) from None

    def _exit_waiter(self, container: Container) -> asyncio.Future[Waited]:
        waiter: asyncio.Future[Waited] = asyncio.get_running_loop().create_future()
        container.exit_waiters.add(waiter)
        waiter.add_done_callback(container.exit_waiters.discard)
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

    async def restart(self, reference: str, *, timeout_s: int | None = None, signal_name: str = "") -> None:
        """Stops it when it runs, and starts it. Raises NotFound, EngineError in Docker's words for everything else."""
        container = self._registry.get(reference)
        try:
            self._must_go_on()
            if container.state.up:
                container.restarted_by_user = True
                await self._stop(container, timeout_s, signal_name)
            await self._start_by_user(container)
        except EngineError as error:
            raise EngineError(f"Cannot restart container {reference}: {error}") from None
        finally:
            container.restarted_by_user = False
        self._event(container, "restart")

    # -- pause

    async def pause(self, reference: str) -> None:
        """Raises NotFound, Conflict."""
        container = self._registry.get(reference)
        if not container.state.up:
            raise Conflict(f"container {container.id} is not running")
        if container.state.status == "paused":
            raise Conflict(f"Container {container.id} is already paused")
        if container.state.status == "restarting" or container.shim is None:
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        shim = container.shim
        await self._probes.halt(container)
        try:
            await shim.pause()
        except NotRunning:
            raise Conflict(f"container {container.id} is not running") from None
        except RuntimeFailure as error:
            if container.state.status == "running":
                self._probes.go_on(container)
            raise EngineError(f"cannot pause container {container.id}: {error}") from None
        self._set_paused(container, "paused", "pause")

    async def unpause(self, reference: str) -> None:
        """Raises NotFound, EngineError (500, as dockerd) when it is not paused."""
        container = self._registry.get(reference)
        if container.state.status != "paused":
            raise EngineError(f"Container {container.id} is not paused")
        await self.unfreeze(container)

    @contextlib.asynccontextmanager
    async def frozen(self, container: Container) -> AsyncIterator[None]:
        """Its processes stand still within the block, when they run at all."""
        if container.state.status != "running":
            yield
            return
        container.held = True
        try:
            try:
                await self.pause(container.id)
            except Conflict:  # it has ended just now
                yield
                return
            try:
                yield
            finally:
                await self.unfreeze(container)
        finally:
            container.held = False

    async def unfreeze(self, container: Container) -> None:
        """Let a paused container go on."""
        if container.shim is None:
            return
        try:
            await container.shim.resume()
        except NotRunning:
            return  # it was killed while it was frozen
        except RuntimeFailure as error:
            raise EngineError(f"Cannot unpause container {container.id}: {error}") from None
        if self._set_paused(container, "running", "unpause"):
            self._probes.go_on(container)

    def _set_paused(self, container: Container, status: str, event: str) -> bool:
        if not container.state.running or container.ending is not None:  # it has ended meanwhile
            return False
        container.state.status = status
        self._registry.save(container)
        self._event(container, event)
        return True

    # -- wait

    async def wait(self, reference: str, condition: str) -> asyncio.Future[Waited]:
        """Registers for ``not-running``, ``next-exit`` or ``removed``; cancel the future to give up. Raises NotFound."""
        container = self._registry.get(reference)
        if condition == "not-running" and not container.state.up and container.ending is None:
            done: asyncio.Future[Waited] = asyncio.get_running_loop().create_future()
            done.set_result(container.waited)
            return done
        if condition != "removed":
            return self._exit_waiter(container)
        waiter: asyncio.Future[Waited] = asyncio.get_running_loop().create_future()
        container.removal_waiters.add(waiter)
        waiter.add_done_callback(container.removal_waiters.discard)
        return waiter

    def _event(self, container: Container, action: str, **attributes: str) -> None:
        self._events.publish("container", action, container.id, container.event_attributes(**attributes))


def _stop_signal(container: Container) -> int:
    return signals.number(container.config["StopSignal"] or "SIGTERM")


async def _attach_late(container: Container) -> None:
    """Those who came while it was being started."""
    for attachment in container.pending.take():
        await attach_now(container, attachment)


async def attach_now(container: Container, attachment: Attachment) -> None:
    """Hands a client's connection to the shim, when there is one. Takes over ``attachment.fd``."""
    try:
        if container.shim is not None:
            await container.shim.attach("", attachment)
    except RuntimeFailure as error:
        log.info("attaching to %s: %s", container.short_id, error)
    finally:
        os.close(attachment.fd)
