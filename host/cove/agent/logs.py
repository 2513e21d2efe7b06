"""The agent's log: one JSON object on a line, within a bound of size; and how people read it.

Keys: `time` (RFC 3339, UTC), `level` ("info", "warning", "error"), `logger`, `message`, and `traceback` where there is one. Lines that are
no JSON are of Python itself, when it ends badly.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from cove.machine.files import MAX_LOG, rotate


class Lines(logging.Formatter):
    """Records as lines of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": stamp(record.created), "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage(),
        }  # fmt: skip
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Rotating(logging.FileHandler):
    """Begins the file anew when it has grown too long. The library's own brings pickle and queues into the agent's memory."""

    def __init__(self, path: Path, max_bytes: int = MAX_LOG) -> None:
        super().__init__(path, encoding="utf-8")
        self._max = max_bytes

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # None after `close`, when the library opens the file again by itself.
            if self.stream is not None and self.stream.tell() > self._max:
                self.stream.close()
                try:
                    rotate(Path(self.baseFilename), self._max)
                finally:
                    self.stream = self._open()
        except OSError:
            self.handleError(record)
            return
        super().emit(record)


def begin(path: Path) -> None:
    """Log to `path` from now on."""
    handler = Rotating(path)
    handler.setFormatter(Lines())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    logging.getLogger("paramiko").setLevel(logging.WARNING)
    logging.getLogger("qemu").setLevel(logging.ERROR)


def stamp(moment: float) -> str:
    """ "2026-11-26T05:33:01.123Z"."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(moment))}.{int(moment % 1 * 1000):03d}Z"


def parsed(line: str) -> dict[str, Any]:
    """A line as an object; one that is no JSON is a message."""
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    return value if isinstance(value, dict) and "message" in value else {"message": line}


def readable(line: str) -> str:
    """A line as people read it: "2026-11-26T05:33:01.123Z INFO    cove.agent.vm: found the running VM again"."""
    value = parsed(line)
    if "time" not in value:
        return str(value["message"])
    text = f"{value['time']} {str(value.get('level', '')).upper():<7} {value.get('logger', '')}: {value['message']}"
    return f"{text}\n{value['traceback']}" if value.get("traceback") else text
