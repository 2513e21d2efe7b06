"""From a command to a dashboard that is served. Light to import."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from typing import Any

from cove.dashboard.places import Places
from cove.errors import CoveError
from cove.local import processes
from cove.local.sockets import connect
from cove.machine.locks import FileLock

ANSWER_S = 5.0
START_S = 30.0
LAUNCH_S = 60.0
END_S = 10.0
MAX_LINE = 4096


def address(name: str, module: str) -> str:
    """Where the dashboard of a machine is opened, once and within a minute; its process, ``python -m module name``, is started when
    none runs, and in the place of another Cove's. Raises `CoveError`.
    """
    places = Places(name)
    places.make()
    with FileLock(places.launch_lock) as lock:
        lock.acquire(LAUNCH_S, f"the start of the dashboard of machine {name}")
        told = _asked(places, "open")
        if told is not None and told.get("version") != version("cove"):
            end(name)
            told = None
        if told is None:
            _start(places, module)
            told = _asked(places, "open")
    if told is None or "url" not in told:
        raise CoveError("the dashboard does not answer as agreed", f"its log is {places.log}")
    return str(told["url"])


def end(name: str) -> None:
    """End the dashboard of a machine if it runs, and wait for that. Raises `CoveError`."""
    places = Places(name)
    if places.folder.is_dir() and _asked(places, "end") is not None:
        lock = FileLock(places.lock)
        lock.acquire(END_S, f"the dashboard of machine {name}")
        lock.release()


def _asked(places: Places, operation: str) -> dict[str, Any] | None:
    """None when no dashboard runs. Raises `CoveError`."""
    try:
        with connect(places.socket, ANSWER_S) as sock:
            sock.settimeout(ANSWER_S)
            sock.sendall(json.dumps({"op": operation}).encode() + b"\n")
            with sock.makefile("rb") as lines:
                told = json.loads(lines.readline(MAX_LINE))
    except (FileNotFoundError, ConnectionError):
        return None
    except (OSError, ValueError) as error:
        raise CoveError(
            f"the dashboard of machine {places.name} does not answer: {error}", f"its log is {places.log}"
        ) from error
    return told if isinstance(told, dict) else {}


def _start(places: Places, module: str) -> None:
    """Raises `CoveError`."""
    lock = FileLock(places.lock)
    lock.acquire(END_S, f"the dashboard of machine {places.name}")  # one that is just ending
    lock.release()
    with places.log.open("ab") as log:
        words = [sys.executable, "-m", module, places.name]
        process = processes.start(words, log, inherited=(), folder=places.folder, output=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as said:
        if not processes.says_something(said, START_S):
            process.kill()
            raise CoveError("the dashboard did not start", f"its log is {places.log}")
