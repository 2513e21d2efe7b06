"""What containers use, sampled once a second for those who watch (``docker stats``).

A watched container has one sampler, however many clients follow it; nobody watches, nothing is read. A sample is a few
reads of cgroup files and of /proc, which the kernel answers from memory: that takes less time than to ask a thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coved.containers import cgroup_stats
from coved.containers.container import Container
from coved.containers.durations import rfc3339
from coved.containers.registry import Registry
from coved.networks import Networks

log = logging.getLogger(__name__)

Json = dict[str, Any]
_Carried = tuple[str, tuple[int, int]]
"""A network namespace, with the bytes that it has received and sent so far."""

INTERVAL_S = 1.0
TRAFFIC_S = 2.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass
class Frame:
    """One sample as the Engine API's ContainerStatsResponse. All followers get the same one: ``line`` keeps its encoded form."""

    values: Json
    line: bytes = b""


class Stats:
    """The samplers of all containers."""

    def __init__(self, registry: Registry, networks: Networks) -> None:
        self._registry = registry
        self._networks = networks
        self._samplers: dict[str, _Sampler] = {}

    @property
    def watched(self) -> int:
        """How many containers are being sampled."""
        return len(self._samplers)

    def once(self, container: Container) -> Frame:
        """One sample, with nothing before it to compare it with; zeros when the container does not run."""
        return Frame(_response(container, self._measure(container), None))

    def empty(self, container: Container) -> Frame:
        """What dockerd says of a container that does not run: its name, and zeros."""
        return Frame(_response(container, _NOTHING, None))

    async def follow(self, container: Container) -> AsyncIterator[Frame]:
        """A frame at once and one every second, until the container is removed. Close the iterator when done."""
        sampler = self._samplers.get(container.id)
        if sampler is None or sampler.task.done():
            if container not in self._registry:
                return
            sampler = self._samplers[container.id] = _Sampler(self, container)
        sampler.followers += 1
        try:
            if sampler.latest is not None:
                yield Frame(_response(container, sampler.latest, None))
            while await sampler.tick():
                assert sampler.frame is not None
                yield sampler.frame
        finally:
            sampler.followers -= 1
            if not sampler.followers:
                sampler.task.cancel()
                self._samplers.pop(container.id, None)

    async def traffic(self) -> AsyncIterator[Json]:
        """What all containers together receive and send, in bytes a second, every other second: for a chart of the whole machine, which
        would need a stream for each container otherwise. One on the machine's own network has no devices to be counted.
        """
        loop = asyncio.get_running_loop()
        before, since = self._carried({}), loop.time()
        while True:
            await asyncio.sleep(TRAFFIC_S)
            now, at = self._carried(before), loop.time()
            # By namespaces, which containers may share. Of a container that is new all of it is, and one that has ended tells nothing.
            earlier = dict(before.values())
            received, sent = (
                sum(
                    max(0, count[way] - earlier.get(namespace, (0, 0))[way])
                    for namespace, count in dict(now.values()).items()
                )
                / (at - since)
                for way in (0, 1)
            )
            before, since = now, at
            yield {"received": round(received), "sent": round(sent)}

    def _carried(self, before: Mapping[str, _Carried]) -> dict[str, _Carried]:
        """By containers that run. One that cannot be counted just now, as while it changes networks, has carried what it had ``before``."""
        found: dict[str, _Carried] = {}
        for container in self._registry:
            if (shim := container.shim) is None or not container.state.running:
                continue
            if carried := self._count(container.id, shim.pid) or before.get(container.id):
                found[container.id] = carried
        return found

    def _count(self, id: str, pid: int) -> _Carried | None:
        interfaces = self._networks.sandboxes.interfaces(id)
        if not interfaces:
            return None
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/net")  # noqa: PTH115 -- for each container
            devices = _traffic(pid, interfaces).values()
        except OSError:  # it is ending
            return None
        return (
            (namespace, (sum(one["rx_bytes"] for one in devices), sum(one["tx_bytes"] for one in devices)))
            if devices
            else None
        )

    def _measure(self, container: Container) -> _Sample:
        shim = container.shim
        if shim is None or not container.state.running:
            return _NOTHING
        used = cgroup_stats.cpu(shim.cgroup)
        # Close after the container's own time, which it is compared with.
        system, processors = _machine_time()
        values: Json = {
            "pids_stats": cgroup_stats.processes(shim.cgroup),
            "blkio_stats": cgroup_stats.block_io(shim.cgroup),
            "memory_stats": cgroup_stats.memory(shim.cgroup, _machine_memory()),
        }
        if interfaces := self._networks.sandboxes.interfaces(container.id):
            values["networks"] = _traffic(shim.pid, interfaces)
        return _Sample(time.time_ns(), {**used, "system_cpu_usage": system, "online_cpus": processors}, values)


@dataclass(frozen=True)
class _Sample:
    """``read`` in Unix nanoseconds, 0 for a container that does not run; ``cpu`` is the API's ``cpu_stats``."""

    read: int
    cpu: Json
    values: Json


_NOTHING = _Sample(
    0, cgroup_stats.cpu(), {"pids_stats": {}, "blkio_stats": cgroup_stats.block_io(), "memory_stats": {}}
)


class _Sampler:
    """Samples one container until its last follower has left, or it is removed."""

    def __init__(self, stats: Stats, container: Container) -> None:
        self.followers = 0
        self.latest: _Sample | None = None
        self.frame: Frame | None = None
        self._stats = stats
        self._container = container
        self._tick = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def tick(self) -> bool:
        """Waits for the next frame; False when there is none, for the container is removed."""
        if self.task.done():
            return False
        await self._tick.wait()
        return not self.task.done()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        removed: asyncio.Future[Any] = loop.create_future()
        self._container.removal_waiters.add(removed)
        due = loop.time()
        try:
            while not removed.done():
                sample = self._stats._measure(self._container)
                self.frame = Frame(_response(self._container, sample, self.latest))
                self.latest = sample
                self._wake()
                due = max(due + INTERVAL_S, loop.time())
                await asyncio.wait((removed,), timeout=due - loop.time())
        except Exception:
            log.exception("sampling container %s failed", self._container.id)
        finally:
            self._container.removal_waiters.discard(removed)
            # Followers look at the task, which is done when they come to run.
            loop.call_soon(self._wake)

    def _wake(self) -> None:
        tick, self._tick = self._tick, asyncio.Event()
        tick.set()


def _response(container: Container, sample: _Sample, before: _Sample | None) -> Json:
    return {
        "name": f"/{container.name}",
        "id": container.id,
        "read": rfc3339(sample.read),
        "preread": rfc3339(before.read if before else 0),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": sample.cpu,
        "precpu_stats": before.cpu if before else _NOTHING.cpu,
        **sample.values,
    }


def _machine_time() -> tuple[int, int]:
    """Nanoseconds that all processors have spent, idle or not, and how many there are (proc_stat(5)).

    dockerd counts user, nice, system, idle, iowait, irq and softirq.
    """
    fd = os.open("/proc/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # The processors come first; their lines are at most some 120 bytes long.
        lines = os.read(fd, 1 << 16).splitlines()
    finally:
        os.close(fd)
    total = sum(map(int, lines[0].split()[1:8]))
    processors = sum(1 for line in lines if line.startswith(b"cpu") and line[3:4].isdigit())
    return total * (1_000_000_000 // _TICKS_PER_SECOND), processors


def _machine_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _traffic(pid: int, interfaces: Sequence[str]) -> Json:
    """``networks``: what went through each device, from the container's side (proc_pid_net(5))."""
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii", errors="replace") as file:  # noqa: PTH123 -- at every sample
            lines = file.readlines()
    except OSError:  # it is ending
        return {}
    found: Json = {}
    for line in lines:
        name, colon, counted = line.partition(":")
        numbers = counted.split()
        if not colon or name.strip() not in interfaces or len(numbers) < 12:
            continue
        received, sent = numbers[:4], numbers[8:12]
        found[name.strip()] = {
            f"{direction}_{what}": int(number)
            for direction, numbers in (("rx", received), ("tx", sent))
            for what, number in zip(("bytes", "packets", "errors", "dropped"), numbers, strict=True)
        }
    return found
