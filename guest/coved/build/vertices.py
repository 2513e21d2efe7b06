"""The steps of one build, told as they begin and end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace

from coved.build.progress import Progress, Status, Vertex
from coved.dockerfile.instructions import DockerfileError
from coved.errors import EngineError

CANCELED = "context canceled"


class Doing:
    """A step under way."""

    def __init__(self, progress: Progress, vertex: Vertex) -> None:
        self._progress = progress
        self.vertex = vertex

    @property
    def digest(self) -> str:
        return self.vertex.digest

    def cached(self) -> None:
        """Its result was there already."""
        self.vertex.cached = True

    def log(self, stream: int, data: bytes) -> asyncio.Future[None] | None:
        """See ``Progress.log``."""
        return self._progress.log(self.digest, stream, data)

    @contextlib.contextmanager
    def part(self, id: str, name: str = "") -> Iterator[Part]:
        """Something that it does meanwhile, told with its duration."""
        part = self.begin(id, name)
        try:
            yield part
        finally:
            part.done()

    def begin(self, id: str, name: str = "") -> Part:
        """The same, for the caller to end."""
        part = Part(self._progress, Status(self.digest, id, name or id, started_ns=time.time_ns()))
        part.tell()
        return part


class Part:
    def __init__(self, progress: Progress, status: Status) -> None:
        self._progress = progress
        self._status = status

    def tell(self, current: int = 0, total: int = 0) -> None:
        self._status = replace(self._status, current=current, total=total)
        self._progress.status(self._status)

    def done(self) -> None:
        self._status = replace(self._status, completed_ns=time.time_ns())
        self._progress.status(self._status)


class Vertices:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._count = 0

    @contextlib.contextmanager
    def doing(self, name: str) -> Iterator[Doing]:
        """A step for as long as the context is open."""
        self._count += 1
        digest = f"sha256:{hashlib.sha256(f'{self._count} {name}'.encode()).hexdigest()}"
        vertex = Vertex(digest, name, started_ns=time.time_ns())
        self._progress.vertex(replace(vertex))
        doing = Doing(self._progress, vertex)
        try:
            yield doing
        except asyncio.CancelledError:
            vertex.error = CANCELED
            raise
        except (EngineError, DockerfileError) as error:
            vertex.error = str(error)
            raise
        except Exception:
            vertex.error = "internal error, see the engine's log"
            raise
        finally:
            vertex.completed_ns = time.time_ns()
            self._progress.vertex(replace(vertex))
