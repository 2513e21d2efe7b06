"""How a build tells what it does: vertices (steps) that begin and end, what they print, and how far transfers are.

The words are BuildKit's (moby.buildkit.v1 StatusResponse), which all clients can show; the classic builder's output is made of
the same.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol


@dataclass
class Vertex:
    """A step. It is told of anew at each change."""

    digest: str
    """"sha256:<hex>", one for each step of a build."""
    name: str
    """Such as "[build 2/4] RUN make"."""
    cached: bool = False
    started_ns: int = 0
    completed_ns: int = 0
    """0 is not yet; nanoseconds since the epoch."""
    error: str = ""


@dataclass(frozen=True)
class Status:
    """A transfer within a step, or another part of it. ``current`` and ``total`` in bytes."""

    vertex: str
    id: str
    name: str = ""
    current: int = 0
    total: int = 0
    started_ns: int = 0
    completed_ns: int = 0


class Progress(Protocol):
    """Never blocks; belongs to the event loop."""

    def vertex(self, vertex: Vertex) -> None: ...

    def status(self, status: Status) -> None: ...

    def log(self, vertex: str, stream: int, data: bytes) -> asyncio.Future[None] | None:
        """``stream`` 1 is standard output, 2 standard error. Gives what to wait for before there is more of it, if anything."""
        ...

    def warning(self, vertex: str, warning: object) -> None:
        """A ``coved.dockerfile.instructions.Warning``."""
        ...

    def step(self, number: int, total: int, source: str) -> None:
        """The classic builder's "Step 2/4 : RUN make"."""
        ...

    def note(self, text: str) -> None:
        """A line that only the classic builder's output has, such as " ---> Using cache"."""
        ...
