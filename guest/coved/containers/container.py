"""A container: what it was asked to be, and what it is doing."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

from coved.containers.config import Request
from coved.containers.config_schema import Json
from coved.containers.durations import in_words
from coved.containers.files_turn import FilesTurn
from coved.containers.health import Health
from coved.containers.mountpoints import MountPoint
from coved.containers.pending import Pending
from coved.networks import EndpointRequest
from coved.runtime.shim_client import ShimClient
from coved.runtime.spec import Exit

NS = 1_000_000_000


@dataclass
class State:
    """``status`` is the API's: created, running, paused, restarting, removing, exited, dead. Times in Unix nanoseconds, 0 is never."""

    status: str = "created"
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: int = 0
    finished_at: int = 0
    restart_count: int = 0
    restart_delay: float = 0.0
    """Seconds between the last end and the restart that follows it."""

    @property
    def running(self) -> bool:
        """There are processes, paused or not."""
        return self.status in ("running", "paused")

    @property
    def up(self) -> bool:
        """What the API calls running: it runs, or the restart policy is about to start it again."""
        return self.running or self.status == "restarting"


@dataclass(frozen=True)
class Waited:
    """What a wait gives; ``error`` is why the container could not be started."""

    code: int
    error: str = ""


@dataclass(eq=False)
class Container:
    """The record that is kept, and the live part that ends with the engine."""

    id: str
    name: str
    image_id: str
    image_name: str
    """The name it was created by, as it was written."""
    request: Request
    mounts: list[MountPoint]
    created: int
    state: State = field(default_factory=State)
    stopped_by_user: bool = False
    """Restart policies leave a container alone that somebody has stopped."""
    health: Health | None = None
    """None until a container that has a health check is started."""

    # -- live
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    files: FilesTurn = field(default_factory=FilesTurn)
    """Of whoever looks into its files from outside, and of a start: one root is never mounted twice."""
    starting: bool = False
    """Whoever attaches now is served as soon as the process has been started."""
    shim: ShimClient | None = None
    ending: asyncio.Task[None] | None = None
    """Tidies up after the process; done when the container may be started or removed again."""
    restart_timer: asyncio.TimerHandle | None = None
    """Until the restart policy starts it."""
    began: int = 0
    """Of its start, in nanoseconds of the monotonic clock: that of the day may jump."""
    held: bool = False
    """The engine itself has paused it, for as long as it copies its files: that is not on record."""
    first_start: bool = False
    """Its policy starts it at the engine's start, when nobody is there to be told that a port of the computer is taken."""
    restarted_by_user: bool = False
    """It is being stopped only to be started again."""
    pending: Pending = field(default_factory=Pending)
    """Clients that attached before the start."""
    exit_waiters: set[asyncio.Future[Any]] = field(default_factory=set)
    """Futures that the next exit resolves, with ``Waited``."""
    removal_waiters: set[asyncio.Future[Any]] = field(default_factory=set)

    @property
    def config(self) -> Json:
        return self.request.config

    @property
    def host_config(self) -> Json:
        return self.request.host

    @property
    def short_id(self) -> str:
        return self.id[:12]

    @property
    def pid(self) -> int:
        """Of its first process, on the engine's machine; 0 when it does not run."""
        return self.shim.pid if self.shim is not None and self.state.running else 0

    @property
    def hostname(self) -> str:
        return self.config["Hostname"] or self.short_id

    def age_ns(self) -> int:
        """Nanoseconds since its start. To be asked while it runs at least once, by an engine that has not started it."""
        now = time.monotonic_ns()
        self.began = self.began or now - max(0, time.time_ns() - self.state.started_at)
        return now - self.began

    def status_text(self) -> str:
        """What ``docker ps`` shows."""
        now = time.time_ns()
        state = self.state
        if state.status == "running":
            up = f"Up {in_words(now - state.started_at)}"
            if self.health is None:
                return up
            return f"{up} ({'health: starting' if self.health.status == 'starting' else self.health.status})"
        if state.status == "paused":
            return f"Up {in_words(now - state.started_at)} (Paused)"
        if state.status == "restarting":
            return f"Restarting ({state.exit_code}) {in_words(now - state.finished_at)} ago"
        if state.status == "exited":
            return f"Exited ({state.exit_code}) {in_words(now - state.finished_at)} ago"
        return {"created": "Created", "removing": "Removal In Progress", "dead": "Dead"}[state.status]

    @property
    def waited(self) -> Waited:
        return Waited(self.state.exit_code, self.state.error)

    def wake(self) -> None:
        """Tell everyone who waits for the next exit."""
        _resolve(self.exit_waiters, self.waited)

    def wake_removed(self) -> None:
        """A container that never ran has no exit to wait for: its removal is all there will be."""
        for waiters in (self.removal_waiters, self.exit_waiters):
            _resolve(waiters, Waited(self.state.exit_code))

    def event_attributes(self, **more: str) -> dict[str, str]:
        return {**self.config["Labels"], "image": self.image_name, "name": self.name, **more}

    def to_record(self) -> str:
        state = self.state
        status = "running" if self.held and state.status == "paused" else state.status
        return json.dumps(
            {
                "image_id": self.image_id,
                "image_name": self.image_name,
                "config": self.config,
                "host": self.host_config,
                "endpoints": [vars(endpoint) for endpoint in self.request.endpoints],
                "mounts": [mount.to_json() for mount in self.mounts],
                "created": self.created,
                "state": {**vars(state), "status": status},
                "stopped_by_user": self.stopped_by_user,
                "health": None if self.health is None else vars(self.health),
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_record(cls, id: str, name: str, text: str) -> Container:
        record: dict[str, Any] = json.loads(text)
        endpoints = tuple(EndpointRequest.from_json(one) for one in record["endpoints"])
        return cls(
            id,
            name,
            record["image_id"],
            record["image_name"],
            Request(record["config"], record["host"], endpoints),
            [MountPoint(**mount) for mount in record["mounts"]],
            record["created"],
            State(**record["state"]),
            record["stopped_by_user"],
            Health(**health) if (health := record.get("health")) else None,
        )


def ended(state: State, exit: Exit) -> None:
    """Note how the process ended in ``state``."""
    state.status = "exited"
    state.exit_code, state.finished_at = exit.code, exit.exited_at_ns
    state.oom_killed = state.oom_killed or exit.oom_killed


def _resolve(waiters: set[asyncio.Future[Any]], result: Waited) -> None:
    for waiter in [*waiters]:
        if not waiter.done():
            waiter.set_result(result)
    waiters.clear()
