"""What an engine tells of a build while it goes on (BuildKit's StatusResponse), as plain values.

Times are nanoseconds since the epoch, by the engine's clock; None is not yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

SECOND = 10**9


@dataclass(frozen=True)
class Group:
    """Steps that are shown as one. A `weak` member alone does not make the group be shown."""

    id: str
    name: str = ""
    weak: bool = False


@dataclass(frozen=True)
class Vertex:
    """A step of a build, told of anew at each change."""

    digest: str
    name: str = ""
    inputs: tuple[str, ...] = ()
    started: int | None = None
    completed: int | None = None
    cached: bool = False
    error: str = ""
    group: Group | None = None


@dataclass(frozen=True)
class Part:
    """A part of a step, such as a transfer; `current` and `total` are bytes."""

    id: str
    vertex: str
    name: str = ""
    current: int = 0
    total: int = 0
    timestamp: int = 0
    started: int | None = None
    completed: int | None = None


@dataclass(frozen=True)
class Log:
    """What a step has printed: `stream` 1 is standard output, 2 standard error."""

    vertex: str
    data: bytes
    timestamp: int = 0
    stream: int = 1


@dataclass(frozen=True)
class Range:
    """Lines of a source, counted from 1, both included; characters from 0."""

    start: int
    end: int
    start_character: int = 0
    end_character: int = 0


@dataclass(frozen=True)
class Source:
    """A file that a message is about (BuildKit's SourceInfo)."""

    filename: str
    data: bytes
    language: str = ""


@dataclass(frozen=True)
class Warn:
    """A warning of the Dockerfile's frontend."""

    vertex: str
    short: str
    detail: tuple[str, ...] = ()
    url: str = ""
    level: int = 0
    source: Source | None = None
    ranges: tuple[Range, ...] = ()


@dataclass(frozen=True)
class Status:
    """One message of the stream."""

    vertexes: Sequence[Vertex] = field(default_factory=tuple)
    parts: Sequence[Part] = field(default_factory=tuple)
    logs: Sequence[Log] = field(default_factory=tuple)
    warnings: Sequence[Warn] = field(default_factory=tuple)
