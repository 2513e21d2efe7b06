"""What only the client of a build has: its files, secrets, agents and accounts, and the place where results go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Meter = Callable[[int], None]
"""Told of the bytes that have come so far."""


@dataclass(frozen=True)
class Tree:
    """Files of a client, on the engine's disk: nobody changes them while the context that gave this is open.

    All belong to root. Nothing in it leads out of it but symbolic links, which are as the client has them.
    """

    path: Path
    key: str = ""
    """The same for what is likely the same tree, so that what was hashed need not be again; "" when nobody can say."""


class Client(Protocol):
    """One build's client. All methods raise EngineError when the client does not answer, or has gone."""

    def tree(
        self, name: str, *, excludes: Sequence[str] = (), only: Sequence[str] = (), meter: Meter = lambda _: None
    ) -> AbstractAsyncContextManager[Tree]:
        """One of the client's trees: "context", "dockerfile", or a named context's.

        Args:
            excludes: patterns of .dockerignore, for what shall not be in it.
            only: paths and wildcards that are wanted, and what symbolic links among them lead to; empty wants all.

        Raises NotFound when the client has no such tree.
        """
        ...

    async def secret(self, id: str) -> bytes | None:
        """None: it has none of that id."""
        ...

    def ssh_agent(self, id: str) -> AbstractAsyncContextManager[Path | None]:
        """The path of a socket that leads to the client's SSH agent; None when it forwards none of that id."""
        ...

    async def credentials(self, host: str) -> tuple[str, str]:
        """User and password (or "" and an identity token, or two empty texts) for a registry. Docker Hub goes by
        ``https://index.docker.io/v1/``."""
        ...

    async def receive_tar(self, output: int, chunks: AsyncIterator[bytes]) -> None:
        """Takes an archive."""
        ...

    async def receive_tree(self, output: int, path: Path, subfolders: Mapping[str, Path] | None = None) -> None:
        """Takes the files of a directory."""
        ...
