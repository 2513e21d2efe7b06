"""Progress of the long steps (image, machine, boot, ready), and how it is shown.

Whoever works reports `Event`s to a callback; `renderer()` gives the callback that suits where the user looks: bars on a
terminal, a few plain lines elsewhere. Events cross the agent's socket as JSON.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_INTERVAL_S = 5.0
"""Seconds between two lines of the same phase where there is no terminal."""


@dataclass(frozen=True, slots=True)
class Event:
    """One step forward.

    `phase` is one of "image", "machine", "boot", "ready" (one line each on the screen); `done` and `total` are bytes and may be
    unknown; `detail` is a further line of explanation, shown once.
    """

    phase: str
    text: str
    done: int | None = None
    total: int | None = None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Event:
        return cls(
            str(value["phase"]), str(value["text"]), value.get("done"), value.get("total"), value.get("detail", "")
        )


Report = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The callback of those who do not care."""
