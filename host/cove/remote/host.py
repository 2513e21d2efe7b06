"""A host, as what is done there needs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from cove.transport.base import Stream


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended: its status, and what it said."""

    status: int
    out: bytes
    err: bytes


class Host(ABC):
    """One other computer. Methods block, bounded, and are for threads."""

    @abstractmethod
    def run(self, command: Sequence[str], *, stdin: BinaryIO | bytes = b"", timeout_s: float) -> Ran:
        """Run a command there. Raises `RemoteError` when it cannot be, or does not end in time."""

    @abstractmethod
    def open_stream(self, target: str) -> Stream:
        """A stream to a unix socket there. Raises `TransportError`."""
