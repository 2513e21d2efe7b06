"""What is the same of all ways into a guest, for the tests of the host's side."""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from unix_engine import serve


class Way(ABC):
    """`engine` is a unix socket in the guest, which the host knows as `target`; `serve` says what answers there."""

    guest: Any
    target: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = folder / "engine.sock"
        self._ends: list[Callable[[], None]] = []

    @classmethod
    @contextmanager
    def made(cls) -> Iterator[Self]:
        folder = Path(tempfile.mkdtemp(prefix="cove-w", dir="/tmp"))  # short, for the paths of sockets
        try:
            way = cls(folder)
            try:
                yield way
            finally:
                way.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @abstractmethod
    def transport(self) -> Any: ...

    @abstractmethod
    def restart(self) -> None:
        """Another service in the guest, at the same place."""

    def serve(self, behave: Callable[[Any], None]) -> Callable[[], None]:
        """An engine that does `behave` with each connection; what is returned ends it."""
        end = serve(self.engine, behave)
        self._ends.append(end)
        return end

    def close(self) -> None:
        self.guest.close()
        for end in self._ends:
            end()
