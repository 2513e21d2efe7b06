"""What BuildKit's services need of whoever builds (``coved.build.builder.Builder``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from coved.build.client import Client
from coved.build.progress import Progress
from coved.build.request import Request, Result
from coved.buildkit.session import Archives


class Entry(Protocol):
    """Of the build cache. Sizes in bytes, times in nanoseconds since the epoch."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def parents(self) -> tuple[str, ...]: ...
    @property
    def size(self) -> int: ...
    @property
    def in_use(self) -> bool: ...
    @property
    def shared(self) -> bool: ...
    @property
    def created_ns(self) -> int: ...
    @property
    def used_ns(self) -> int: ...
    @property
    def uses(self) -> int: ...


class Upkeep(Protocol):
    def entries(self) -> Sequence[Entry]: ...

    async def prune(
        self, *, everything: bool = False, unused_for_s: float = 0, keep_bytes: int = 0, ids: Iterable[str] = ()
    ) -> Sequence[Entry]: ...


class Builder(Protocol):
    @property
    def upkeep(self) -> Upkeep: ...

    @property
    def incoming(self) -> Archives: ...

    async def build(self, request: Request, client: Client, progress: Progress) -> Result: ...
