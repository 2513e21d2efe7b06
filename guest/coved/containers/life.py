"""The life of containers: start, stop, signals, pauses, and what happens when one ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

from coved.containers import restarts, signals
from coved.containers.container import Container, State, ended
from coved.containers.execs import Execs
from coved.containers.registry import Registry
from coved.containers.starter import Starter
from coved.errors import Conflict, EngineError, InvalidParameter, NotModified
from coved.events import Events
from coved.networks import Networks
from coved.runtime.client import SpawnerClient
from coved.runtime.errors import NotRunning, RuntimeFailure, StartError
from coved.runtime.spec import Exit

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10
KILLED = 137


class Life:
    """Runs what the registry holds.

    Args:
        remove: takes an ended container away (``AutoRemove``).
    """

    def __init__(
        self,
        *,
        registry: Registry,
        starter: Starter,
        execs: Execs,
        networks: Networks,
        spawner: SpawnerClient,
        events: Events,
        remove: Callable[[Container], Awaitable[None]],
    ) -> None:
        self._registry = registry
        self._starter = starter
        self._execs = execs
        self._networks = networks
        self._spawner = spawner
        self._events = events
        self._remove = remove
        self._shutting_down = False
        self._tasks: set[asyncio.Task[None]] = set()

    # -- life of the engine

    async def restore(self) -> None:
        """Finds the containers that outlived an earlier engine, notes the end of those that did not, applies restart policies."""
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
                and container.host["RestartPolicy"]["Name"] in restarts.BOOT_POLICIES
                and self._wants_restart(container, after_boot=True)
            ):
                self._restart_later(container, 0.0)

    def _note_missed_end(self, container: Container) -> None:
        # The shim writes the exit file before anyone is told; without one the machine died under the container.
        from coved.runtime import exitfile

        ended(
            container.state,
            exitfile.read(str(self._starter.exit_file(container))) or Exit(KILLED, False, time.time_ns()),
        )
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

    # -- running

    async def start(self, reference: str) -> None:
        """Starts it; published ports answer when this returns.

        Raises NotFound, NotModified (it runs), Conflict, InvalidParameter and EngineError with Docker's texts.
        """
        container = self._registry.get(reference)
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
            self._execs.adopt(container)

    def _on_exit(self, container: Container, process_id: str, exit: Exit) -> None:
        if process_id:
            self._execs.ended(container, process_id, exit)
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
            container.restart_delay = restarts.next_delay(container.restart_delay, ran)
            self._restart_later(container, container.restart_delay)
        elif container.host["AutoRemove"] and not self._shutting_down:
            await self._remove(container)

    def _wants_restart(self, container: Container, *, after_boot: bool = False) -> bool:
        return not self._shutting_down and restarts.wanted(container, after_boot=after_boot)

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
        container = self._registry.get(reference)
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
            await self.kill_and_wait(container)

    async def kill_and_wait(self, container: Container) -> None:
        """Returns when it has ended; nothing to do when it does not run. Raises EngineError."""
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
        container = self._registry.get(reference)
        number = signals.number(signal_name or "SIGKILL")
        if not container.state.running:
            raise Conflict(f"cannot kill container: {reference}: container {container.id} is not running")
        if number in (signal.SIGKILL, signal.SIGTERM) or number == signals.number(
            container.config["StopSignal"] or "TERM"
        ):
            container.stopped_by_user = True
        if number == signal.SIGKILL:
            await self.kill_and_wait(container)
        else:
            await self._send(container, number)

    async def restart(self, reference: str, *, timeout_s: int | None = None, signal_name: str = "") -> None:
        container = self._registry.get(reference)
        with contextlib.suppress(NotModified):
            await self.stop(reference, timeout_s=timeout_s, signal_name=signal_name)
        with contextlib.suppress(NotModified):
            await self.start(container.id)
        self._event(container, "restart")

    async def pause(self, reference: str) -> None:
        container = self._registry.get(reference)
        if container.state.status == "paused":
            raise Conflict(f"container {container.id} is already paused")
        self._must_run(container)
        await self._call(container, "pause")

    async def unpause(self, reference: str) -> None:
        container = self._registry.get(reference)
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

    async def wait(self, reference: str, condition: str) -> asyncio.Future[int]:
        """Registers for ``not-running``, ``next-exit`` or ``removed``; the future gives the exit status."""
        container = self._registry.get(reference)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if condition == "removed":
            container.removal_waiters.add(future)
        elif condition == "next-exit" or container.state.running or container.ending is not None:
            container.exit_waiters.add(future)
        else:
            future.set_result(container.state.exit_code)
        return future

    def _must_run(self, container: Container) -> None:
        if not container.state.running or container.shim is None:
            raise Conflict(f"container {container.id} is not running")

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
