"""What comes after a container's end: what it used is given back, everyone is told, and its restart policy is followed.

That goes for ends that are seen, for those that nobody saw because there was no engine, and for starts that did not succeed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any

from coved.containers import restarts
from coved.containers.container import NS, Container, ended
from coved.containers.execs import Execs
from coved.containers.launcher import Launcher
from coved.containers.probes import Probes
from coved.containers.registry import Registry
from coved.errors import EngineError
from coved.events import Events
from coved.networks import Networks
from coved.runtime.errors import RuntimeFailure
from coved.runtime.shim_client import ShimClient
from coved.runtime.spec import Exit

log = logging.getLogger(__name__)

UNKNOWN_EXIT = 255
"""dockerd's exit status for a container that ended with the machine."""
KILLED = 128 + signal.SIGKILL
LINKED_S = 5.0
"""How long a container waits after a boot for those it is linked to, as in dockerd."""
SHARED_S = 60.0
"""How long for those whose namespaces it shares, for which dockerd does not wait: it could not start without them."""


class Endings:
    """Follows what the registry holds to its end, and beyond.

    Args:
        start_again: what a restart policy does; raises EngineError.
        remove: takes an ended container away (``AutoRemove``).
    """

    def __init__(
        self,
        *,
        registry: Registry,
        launcher: Launcher,
        execs: Execs,
        networks: Networks,
        probes: Probes,
        events: Events,
        start_again: Callable[[Container], Awaitable[None]],
        remove: Callable[[Container], Coroutine[Any, Any, None]],
    ) -> None:
        self._registry = registry
        self._launcher = launcher
        self._execs = execs
        self._networks = networks
        self._probes = probes
        self._events = events
        self._start_again = start_again
        self._remove = remove
        self._tasks: set[asyncio.Task[None]] = set()
        self._first_starts: dict[str, asyncio.Task[None]] = {}
        self._first_ends: list[asyncio.Task[None]] = []
        self.shutting_down = False

    def shut_down(self) -> None:
        """From now on no container is started again by its policy, nor removed by its own wish."""
        self.shutting_down = True
        for container in self._registry:
            if container.restart_timer is not None:
                container.restart_timer.cancel()

    async def settle(self, timeout_s: float) -> None:
        """Returns when what policies start after a boot has been started, or has failed to, and what ended while no engine
        was there is known to have; or the time is over."""
        if tasks := [*self._first_starts.values(), *self._first_ends]:
            await asyncio.wait(tasks, timeout=timeout_s)
            self._first_starts.clear()
            self._first_ends.clear()

    # -- ends that nobody saw

    async def take_up(self, container: Container) -> bool:
        """A container without processes: note its end when nobody has, and whether its policy starts it after a boot."""
        state = container.state
        if state.status == "restarting":
            passed_s = max(0.0, (time.time_ns() - state.finished_at) / NS)
            self._restart_later(
                container, max(0.0, state.restart_delay - passed_s)
            )  # the back-off goes on where it was
            return False
        ran = state.running
        seen_end = ran and self._note_missed_end(container)
        if container.host_config["AutoRemove"] and (state.status == "exited" or state.error):
            await self._remove(container)
        elif (
            ran
            # It ended with the machine, or with an engine that was stopping.
            or (state.status == "exited" and container.host_config["RestartPolicy"]["Name"] in restarts.BOOT_POLICIES)
        ) and self._wants_restart(container, after_boot=True):
            container.stopped_by_user = False
            if seen_end:
                ran_ns = container.state.finished_at - container.state.started_at
                self._restart_later(container, self._count_restart(container, ran_ns))
            else:
                container.state.status = "restarting"
                self._save(container)
                return True
        return False

    def start_first(self, containers: Iterable[Container]) -> None:
        """Starts, after a boot, what policies start then."""
        for container in containers:
            self._first_starts[container.id] = self._later(self._start_first(container))

    async def _start_first(self, container: Container) -> None:
        """After those it is linked to, or whose namespaces it shares: without them it could not start."""
        links = [link.target_id for link in self._registry.links.of(container.id).values()]
        for others, patience_s in ((links, LINKED_S), (self._shared(container), SHARED_S)):
            if before := [task for other in others if (task := self._first_starts.get(other))]:
                await asyncio.wait(before, timeout=patience_s)
        container.first_start = True
        try:
            await self._restart_now(container)
        finally:
            container.first_start = False

    def _shared(self, container: Container) -> Iterator[str]:
        """The ids of others whose namespaces it shares."""
        for field in ("NetworkMode", "IpcMode", "PidMode"):
            kind, _, other = str(container.host_config.get(field) or "").partition(":")
            if kind == "container":
                with contextlib.suppress(EngineError):
                    yield self._registry.get(other).id

    def _note_missed_end(self, container: Container) -> bool:
        """Whether it ended while no engine was there, and not with the machine."""
        # The shim writes the exit file before anyone is told; without one the machine died under the container.
        from coved.runtime import exitfile

        exit = exitfile.read(str(self._launcher.exit_file(container)))
        ended(container.state, exit or Exit(UNKNOWN_EXIT, False, time.time_ns()))
        if container.health is not None:
            container.health.status = "unhealthy"
        self._save(container)
        return exit is not None

    # -- ends that are seen

    def found(self, container: Container) -> None:
        """It outlived an earlier engine: its end, too, is this one's business, and so are its execs."""
        shim = container.shim
        if shim is not None:
            self._execs.adopt(container)
            if shim.oom_killed and not container.state.oom_killed:
                self._on_oom(container)
            self.watch(container)
            shim.on_exit(lambda id, exit: self.on_exit(container, id, exit))
            if container.ending is not None:  # while no engine was there: nobody shall still be shown it running
                self._first_ends.append(container.ending)

    def watch(self, container: Container) -> None:
        """Whatever the shim tells but the ends of processes, which ``on_exit`` is to be told of."""
        if (shim := container.shim) is not None:
            shim.on_oom(lambda: self._on_oom(container))
            shim.on_detach(lambda id: self._on_detach(container, id))
            shim.on_gone(lambda: self._on_gone(container, shim))

    def on_exit(self, container: Container, process_id: str, exit: Exit) -> None:
        """A process of it has ended, its init or an exec's."""
        if process_id:
            self._execs.ended(container, process_id, exit)
        elif container.ending is None and container.shim is not None and container.shim.started:
            container.ending = self._later(self._ended(container, exit))

    def _on_detach(self, container: Container, process_id: str) -> None:
        if process_id:
            self._execs.detached(process_id)
        else:
            self._event(container, "detach")

    def _on_oom(self, container: Container) -> None:
        """The kernel has killed a process of the container for want of memory; the container may go on."""
        container.state.oom_killed = True
        self._save(container)
        self._event(container, "oom")

    def _on_gone(self, container: Container, shim: ShimClient) -> None:
        """The shim is no more, and with it whoever could tell of the container's end: what is left of it is killed."""
        if container.shim is shim and container.ending is None:
            from coved.runtime import exitfile  # rare

            log.error("the shim of container %s is gone, which ends the container", container.short_id)
            exit = exitfile.read(str(self._launcher.exit_file(container)))
            container.ending = self._later(self._ended(container, exit or Exit(KILLED, False, time.time_ns())))

    async def _ended(self, container: Container, exit: Exit) -> None:
        """After init has ended: give back what it used, then tell everyone.

        No step that fails keeps those after it from being taken: whatever is left behind, the container has ended, those
        who wait for that are told, and it can be started again.
        """
        ran = container.age_ns()
        container.began = 0
        shim, container.shim = container.shim, None
        halting = self._later(self._probes.halt(container))
        discarding = self._later(self._launcher.discard(shim)) if shim is not None else None
        closing = self._later(self._networks.sandboxes.close(container.id))
        with step(container, "closing its network"):
            await closing
        with step(container, "taking its shim away"):
            if discarding is not None:
                await discarding
        with step(container, "taking its volumes off"):
            await self._launcher.release(container)
        with step(container, "ending its health checks"):
            await halting
        with step(container, "ending its execs"):
            self._execs.forget(container.id, ended=True)
        oom_is_news = exit.oom_killed and not container.state.oom_killed
        ended(container.state, exit)
        restart = self._wants_restart(container)
        with step(container, "noting its end"):
            if restart:
                self._restart_later(container, self._count_restart(container, ran))
            else:
                # What removes itself is removed after this, which lasts, or after the next boot in any case.
                self._registry.save(container, lasting=not container.host_config["AutoRemove"])
        with step(container, "telling of its end"):
            tell_volumes(self._events, container, "unmount")
            if oom_is_news:
                self._event(container, "oom")
            self._event(container, "die", exitCode=str(exit.code), execDuration=str(ran // NS))
        container.ending = None
        container.wake()
        if (
            not restart
            and container.host_config["AutoRemove"]
            and not self.shutting_down
            and not container.restarted_by_user
        ):
            await self._remove(container)

    def _wants_restart(self, container: Container, *, after_boot: bool = False) -> bool:
        if self.shutting_down or container.restarted_by_user:
            return False
        return restarts.wanted(
            container.host_config,
            exit_code=container.state.exit_code,
            restarts=container.state.restart_count,
            stopped=container.stopped_by_user,
            after_boot=after_boot,
        )

    async def not_started(self, container: Container, by_policy: bool) -> None:
        """A start did not succeed; the state says why.

        As with dockerd, nobody hears of it who waits for the next exit of what has not run: ``docker run`` has the error for
        an answer, and would print it twice. Who waits for one that a policy was to start has come to the end of it.
        """
        with step(container, "closing its network"):
            await self._networks.sandboxes.close(container.id)
        with step(container, "noting why it did not start"):
            self._registry.save(container)
        if by_policy:
            container.wake()
        if container.host_config["AutoRemove"]:
            self._later(self._remove(container))

    # -- restart policies

    def _count_restart(self, container: Container, ran_ns: int) -> float:
        """Seconds to wait before the restart that follows the end just noted, of a run of so many nanoseconds."""
        state = container.state
        state.restart_count += 1
        state.restart_delay = restarts.next_delay(state.restart_delay, ran_ns)
        return state.restart_delay

    def _restart_later(self, container: Container, delay_s: float) -> None:
        def due() -> None:
            container.restart_timer = None
            self._later(self._restart_now(container))

        container.state.status = "restarting"
        container.restart_timer = asyncio.get_running_loop().call_later(delay_s, due)
        self._save(container)

    async def _restart_now(self, container: Container) -> None:
        code = container.state.exit_code
        try:
            await self._start_again(container)
        except EngineError as error:
            # dockerd, too, gives up on a container that cannot be started; it shows how the last run ended.
            log.warning("restarting container %s: %s", container.short_id, error)
            container.state.exit_code = code
            self._registry.save(container)

    def _save(self, container: Container) -> None:
        """What cannot be noted, on a full disk say, is no reason not to go on with it."""
        with step(container, "noting its state"):
            self._registry.save(container)

    def _later(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
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


def tell_volumes(events: Events, container: Container, action: str) -> None:
    """``mount`` or ``unmount`` of each of a container's volumes."""
    for mount in container.mounts:
        if mount.kind == "volume":
            events.publish("volume", action, mount.source, mount.event_attributes(action, container.id))


@contextlib.contextmanager
def step(container: Container, what: str) -> Iterator[None]:
    """One of several things to do of which each is to be tried: what fails is logged."""
    try:
        yield
    except Exception as error:
        known = isinstance(error, (EngineError, RuntimeFailure))
        log.error("container %s: %s failed: %s", container.short_id, what, error, exc_info=not known)
