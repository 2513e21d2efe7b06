"""The kill test's journal: what was asked of the engine, what it acknowledged, and when something was killed.

A line is on record before its request goes out, and an answer only once it has come whole. Of what was asked and has no
answer nobody can know whether it was done: both is right. ``World`` (kill_model) says what follows from the lines.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Line:
    """``phase``: asked, answered, broken (the connection ended before the answer), or kill. ``of``: number of the asked line."""

    number: int
    at: float
    phase: str
    operation: str
    subject: str
    of: int = 0
    status: int = 0
    value: Any = None
    arguments: dict[str, Any] = field(default_factory=dict)


class Journal:
    """Written by many threads, one line at a time; each line goes to whoever follows before the next one is written."""

    def __init__(self, path: Path, follower: Callable[[Line], None]) -> None:
        self._file = path.open("w", buffering=1)
        self._follower = follower
        self._lock = threading.Lock()
        self._number = 0
        self.counts: dict[str, int] = {}
        self.open: dict[int, Line] = {}
        """Lines that were asked and have not been answered."""

    def asked(self, operation: str, subject: str, **arguments: Any) -> Line:
        return self._write("asked", operation, subject, arguments=arguments)

    def answered(self, asked: Line, status: int, value: Any = None) -> Line:
        return self._write(
            "answered", asked.operation, asked.subject, of=asked.number, status=status, value=value,
            arguments=asked.arguments,
        )  # fmt: skip

    def broken(self, asked: Line) -> Line:
        return self._write("broken", asked.operation, asked.subject, of=asked.number, arguments=asked.arguments)

    def killed(self, what: str, subject: str) -> Line:
        return self._write("kill", what, subject)

    def _write(self, phase: str, operation: str, subject: str, **more: Any) -> Line:
        with self._lock:
            self._number += 1
            line = Line(self._number, time.monotonic(), phase, operation, subject, **more)
            self._file.write(json.dumps(asdict(line)) + "\n")
            self.counts[phase] = self.counts.get(phase, 0) + 1
            if phase == "asked":
                self.open[line.number] = line
            else:
                self.open.pop(line.of, None)
            self._follower(line)
            return line

    def close(self) -> None:
        self._file.close()
