"""Runs health checks: one timer for each running container that has one, and a process in it when the timer fires.

A probe is a process like an exec's, but nobody's: it has no events, no entry among the execs, and it is killed when it takes
too long, when the container pauses or ends, and when the engine that waited for it is gone.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import socket
import time
from dataclasses import dataclass, field

from coved.containers import health
from coved.containers.config_schema import Json
from coved.containers.container import NS, Container
from coved.containers.durations import go_duration, rfc3339
from coved.containers.execs import process_of
from coved.containers.linked import Linked
from coved.containers.proxies_and_certificates import ProxiesAndCertificates
from coved.containers.registry import Registry
from coved.errors import EngineError
from coved.events import Events
from coved.runtime.errors import NotRunning, RuntimeFailure, ShimGone
from coved.runtime.shim_client import ShimClient
from coved.runtime.spec import Attachment, Stdio

log = logging.getLogger(__name__)

PREFIX = "health-"
"""Of the process ids that the runtime knows probes by; an exec's is 64 hexadecimal digits."""
_KILL_S = 30.0


@dataclass(eq=False)
class Prober:
    """``stop`` ends the timer and the probe that may be running; ``task`` is done when both have ended."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Probes:
    """The probers of all containers."""

    def __init__(
        self, registry: Registry, events: Events, linked: Linked, proxies_and_certificates: ProxiesAndCertificates
    ) -> None:
        self._registry = registry
        self._events = events
        self._linked = linked
        self._proxies_and_certificates = proxies_and_certificates
        self._probers: dict[str, Prober] = {}

    def begin(self, container: Container) -> None:
        """The container has just started, or the engine has found it running: its health is not known yet."""
        if health.command(container.config) is None:
            return
        past = container.health.log if container.health is not None else []
        container.health = health.Health(log=past)
        self.go_on(container)

    def go_on(self, container: Container) -> None:
        """Probe a running container from now on."""
        if container.health is None or container.shim is None or container.id in self._probers:
            return
        prober = self._probers[container.id] = Prober()
        prober.task = asyncio.get_running_loop().create_task(self._run(container, container.shim, prober.stop))

    async def halt(self, container: Container) -> None:
        """Returns when no probe runs any more. Without one, a container counts as unhealthy (dockerd's compatibility)."""
        prober = self._probers.pop(container.id, None)
        if prober is None:
            return
        if container.health is not None:
            container.health.status = "unhealthy"
        prober.stop.set()
        if prober.task is not None:
            await asyncio.wait({prober.task})

    async def close(self) -> None:
        """The engine ends; containers and what is known of their health stay."""
        probers, self._probers = [*self._probers.values()], {}
        for prober in probers:
            prober.stop.set()
        if tasks := {prober.task for prober in probers if prober.task is not None}:
            await asyncio.wait(tasks)

    async def sweep(self, container: Container) -> None:
        """Kill the probes that an earlier engine left running: nobody knows when they are too late."""
        if container.shim is None:
            return
        for id in [id for id in container.shim.execs if id.startswith(PREFIX)]:
            await _kill(container.shim, id)

    async def _run(self, container: Container, shim: ShimClient, stop: asyncio.Event) -> None:
        state = container.health
        assert state is not None
        while not await _within(stop, state.pause_ns(container.config, container.age_ns()) / NS):
            start, age = time.time_ns(), container.age_ns()
            try:
                code, output = await self._probe(container, shim, stop)
            except Exception as error:
                log.exception("the health check of container %s failed", container.short_id)
                code, output = -1, str(error)
            if stop.is_set():
                return
            result: Json = {
                "Start": rfc3339(start),
                "End": rfc3339(time.time_ns()),
                "ExitCode": code,
                "Output": output,
            }
            if state.note(result, container.config, age):
                self._registry.save(container)
                attributes = container.event_attributes()
                self._events.publish("container", f"health_status: {state.status}", container.id, attributes)

    async def _probe(self, container: Container, shim: ShimClient, stop: asyncio.Event) -> tuple[int, str]:
        """Run the check once; its exit status (-1: it could not be run, or took too long) and its output."""
        words = health.command(container.config)
        assert words is not None
        id = PREFIX + secrets.token_hex(16)
        try:
            env = [*self._linked.environment(container), *container.config["Env"]]
            env = [*self._proxies_and_certificates.environment(env, container.shim.pid if container.shim else 0), *env]
        except EngineError as error:
            return -1, str(error)
        process = process_of(container, {**container.config, "Cmd": words, "Tty": False, "Env": env})
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        output = health.Output()
        with ours:
            try:
                with theirs:
                    await shim.exec(id, process, stdio=Stdio(), attach=[Attachment(theirs.fileno(), raw=True)])
            except RuntimeFailure as error:
                return -1, str(error)
            reading = asyncio.get_running_loop().create_task(_read(ours, output))
            timeout_ns = health.period(container.config, "Timeout")
            code = await _exit_of(shim, id, stop, timeout_ns / NS)
            # The runtime closes the connection when all output is written, which is before it tells the end.
            await asyncio.wait({reading}, timeout=_KILL_S)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)  # before its socket is closed
        if code is not None:
            return code, output.text()
        message = f"Health check exceeded timeout ({go_duration(timeout_ns)})"
        return -1, f"{message}: {text}" if (text := output.text()) else message


async def _exit_of(shim: ShimClient, id: str, stop: asyncio.Event, timeout_s: float) -> int | None:
    """The exit status; None when the process had to be killed."""
    ended = asyncio.get_running_loop().create_task(shim.wait(id))
    stopped = asyncio.get_running_loop().create_task(stop.wait())
    try:
        await asyncio.wait({ended, stopped}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            error = ended.exception()
            return ended.result().code if error is None else -1
        await _kill(shim, id)
        await asyncio.wait({ended}, timeout=_KILL_S)
        return None
    finally:
        for task in (ended, stopped):
            task.cancel()
        await asyncio.gather(ended, stopped, return_exceptions=True)


async def _kill(shim: ShimClient, id: str) -> None:
    try:
        await shim.kill(signal.SIGKILL, process_id=id)
    except (NotRunning, ShimGone):
        return  # it was faster
    except RuntimeFailure as error:
        log.warning("a health check could not be killed: %s", error)


async def _read(sock: socket.socket, output: health.Output) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, 65536):
        output.feed(data)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether ``event`` is set before the time is over."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
