"""Where a machine's engine runs, as the agent's service has it: a VM (`cove.agent.vm`), or another computer (`cove.agent.far`)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from cove.progress import Report
from cove.transport.base import Stream

if TYPE_CHECKING:
    from cove.agent.link import Link


class Door(Protocol):
    """The way to an engine, for threads."""

    def open(self) -> Stream:
        """A stream to the engine, waiting for one that is just coming back. Raises `CoveError`."""

    def close(self) -> None:
        """Nobody waits for it any more."""


class Place(ABC):
    """One run of one machine. Methods are called from one task at a time, in the event loop."""

    link: Link | None
    """To an engine of Cove's own, from the end of `start` on."""
    adopted: bool
    """There may be work in it, of before this start: it is not to be ended for nothing."""
    can_be_suspended: bool

    @property
    @abstractmethod
    def door(self) -> Door | None:
        """From the end of `start` on."""

    @property
    @abstractmethod
    def has_ended(self) -> bool:
        """It is no more, perhaps since this moment."""

    @property
    @abstractmethod
    def outlived_its_policy(self) -> bool:
        """It has just been resumed, and the administrator says something else than when it booted."""

    @abstractmethod
    async def start(self, report: Report) -> None:
        """Return when the engine answers. Raises `CoveError`."""

    @abstractmethod
    async def stop(self, report: Report, forced: asyncio.Event | None = None) -> None:
        """End it in order. ``forced``: when this is set its data are to go, and it is not waited for long. Raises `CoveError`."""

    @abstractmethod
    async def stop_left(self, report: Report, forced: asyncio.Event | None = None) -> None:
        """`stop` what an earlier start has left, and of which this one has not come to have anything. Raises `CoveError`."""

    @abstractmethod
    async def leave(self) -> None:
        """This computer ends, or the agent does: end what does not go on without it."""

    @abstractmethod
    async def suspend(
        self, report: Report, idle_since: float | None = None, unless: asyncio.Event | None = None
    ) -> None:
        """Keep what runs and end it: the next start goes on where it was. Raises `CoveError`, and then it goes on."""

    @abstractmethod
    async def wait_exit(self) -> None:
        """Return when it has ended, whoever ended it."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of it; what runs goes on."""

    @abstractmethod
    async def renew(self) -> None:
        """Tell the engine of proxies and certificates that have changed. Raises `CoveError`."""

    @abstractmethod
    async def go_on(self) -> None:
        """For somebody who wants it now: see to it that it is not held up by what may be over. Raises `CoveError`."""

    def clock_jumped(self) -> None:
        """This computer's clock has, as when it wakes; it may have woken up elsewhere."""
        if self.link is not None:
            self.link.tell_time()

    def seen(self) -> None:
        """A client has come: what nothing tells of is looked at."""
        if self.link is not None:
            self.link.seen()

    @abstractmethod
    def tell_of_trouble(self, changed: Callable[[], None]) -> None:
        """From here on `changed` is called when `status` has something else to tell of what is in the way."""

    @property
    def lost_ports(self) -> Mapping[str, str]:
        """Published ports that others have: "127.0.0.1:8080/tcp", and who."""
        return self.link.lost_ports if self.link is not None else {}

    async def retake_ports(self) -> None:
        """Take those that are free by now."""
        if self.link is not None:
            await self.link.retake_ports()

    @abstractmethod
    def status(self) -> dict[str, Any]:
        """What `cove machine status` shows."""
