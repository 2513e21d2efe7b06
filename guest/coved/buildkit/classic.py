"""Builds by the classic API, in the history as those by BuildKit's calls are."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from coved.build.progress import Progress, Status, Vertex
from coved.build.request import Request, Result
from coved.buildkit import records
from coved.buildkit.history import History
from coved.buildkit.messages import Exporter
from coved.buildkit.status import StatusLog
from coved.dockerfile.instructions import Warning


class Recording:
    """``Progress`` that tells another as well. ``result`` is to be set to what was built."""

    def __init__(self, log: StatusLog, other: Progress) -> None:
        self._log = log
        self._next = other
        self.result = Result()

    def vertex(self, vertex: Vertex) -> None:
        self._log.vertex(vertex)
        self._next.vertex(vertex)

    def status(self, status: Status) -> None:
        self._log.status(status)
        self._next.status(status)

    def log(self, vertex: str, stream: int, data: bytes) -> asyncio.Future[None] | None:
        self._log.log(vertex, stream, data)
        return self._next.log(vertex, stream, data)

    def warning(self, vertex: str, warning: Warning) -> None:
        self._log.warning(vertex, warning)
        self._next.warning(vertex, warning)

    def step(self, number: int, total: int, source: str) -> None:
        self._next.step(number, total, source)

    def note(self, text: str) -> None:
        self._next.note(text)


@contextlib.contextmanager
def recorded(history: History, request: Request, progress: Progress) -> Iterator[Recording]:
    """As long as the context is open the build is under way; what it is left with is how it went."""
    log = StatusLog()
    exporters = [Exporter("moby", {"name": ",".join(output.names)}) for output in request.outputs]
    record = records.begun(records.new_ref(), "dockerfile.v0", _attributes(request), exporters, time.time_ns())
    entry = history.begin(record, log)
    recording = Recording(log, progress)
    error = None
    try:
        yield recording
    except asyncio.CancelledError:
        error = records.canceled()
        raise
    except BaseException as failure:
        failed = next((each.digest for each in log.steps.values() if each.error), "")
        error = records.failure(failure, failed)
        raise
    finally:
        log.end()
        history.end(entry, recording.result, error)


def _attributes(request: Request) -> dict[str, str]:
    """As BuildKit's clients would have asked for it."""
    found = {"filename": request.dockerfile, "target": request.target, "platform": ",".join(request.platforms)}
    found |= {"context": request.context, "force-network-mode": "" if request.network == "default" else request.network}
    found = {name: value for name, value in found.items() if value}
    if request.no_cache:
        found["no-cache"] = ""
    found |= {f"build-arg:{name}": value for name, value in request.build_args.items() if value is not None}
    return found | {f"label:{name}": value for name, value in request.labels.items()}
