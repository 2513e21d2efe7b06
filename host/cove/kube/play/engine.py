"""What a play asks an engine for; `cove.cli.kube_play` has it from the engine's client."""

from __future__ import annotations

from typing import Any, Protocol

from cove.errors import CoveError


class Refused(CoveError):
    """The engine's answer was an error: `code` is its HTTP status."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Engine(Protocol):
    """One exchange at a time; raises `Refused`."""

    def call(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        body: Any = None,
        *,
        archive: bytes | None = None,
    ) -> Any:
        """A request, and its answer."""

    def pull(self, image: str) -> None: ...

    def kind(self, container: str, path: str) -> str:
        """What a path in a container is, of `storage.HOST_KINDS`; "" for none of these."""

    def execute(self, container: str, command: list[str], timeout_s: float) -> int:
        """Run a command in a container; its exit status, or 124, as of timeout(1), when it has not ended by then."""

    def log(self, container: str, lines: int) -> str:
        """The last that it has said."""

    def another(self) -> Engine:
        """One more, for another thread."""
