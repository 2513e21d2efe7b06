"""Processes of the user's that stand by a machine without being part of it, as its dashboard does: one of each kind for a machine, started
by a command, found by the next one, and asked on a socket of its own. Light to import.

Their files are not in the machine's folder: they serve a machine that is removed, or has yet to be made, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cove.errors import CoveError
from cove.local import processes
from cove.local.sockets import connect
from cove.machine.locks import FileLock
from cove.machine.paths import private_dir, runtime_dir, validate_name

if TYPE_CHECKING:
    import asyncio

ANSWER_S = 5.0
ASKED_S = 10.0
LAUNCH_S = 60.0
END_S = 10.0
MAX_LINE = 4096


class Companion:
    """One machine's of one kind. Raises `CoveError` for a name that no machine can have."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = validate_name(name)

    @property
    def words(self) -> str:
        return f"the {self.kind} of machine {self.name}"

    @property
    def folder(self) -> Path:
        return runtime_dir() / f".{self.kind}"  # no machine can have a name with a dot

    @property
    def lock(self) -> Path:
        """Locked by the process for as long as it lives."""
        return self.folder / f"{self.name}.lock"

    @property
    def launch_lock(self) -> Path:
        """Locked by a command while it starts the process."""
        return self.folder / f"{self.name}.launch.lock"

    @property
    def socket(self) -> Path:
        """Where commands ask the process."""
        return self.folder / f"{self.name}.sock"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def make(self) -> None:
        """Create the private folder. Raises `CoveError`."""
        private_dir(runtime_dir())
        private_dir(self.folder)

    def asked(self, operation: str) -> dict[str, Any] | None:
        """Its answer, None when none runs. Raises `CoveError`."""
        try:
            with connect(self.socket, ANSWER_S) as sock:
                sock.settimeout(ANSWER_S)
                sock.sendall(json.dumps({"op": operation}).encode() + b"\n")
                with sock.makefile("rb") as lines:
                    told = json.loads(lines.readline(MAX_LINE))
        except (FileNotFoundError, ConnectionError):
            return None
        except (OSError, ValueError) as error:
            raise CoveError(f"{self.words} does not answer: {error}", f"its log is {self.log}") from error
        return told if isinstance(told, dict) else {}

    def ensure(self, version: str, words: Sequence[str], start_s: float) -> tuple[dict[str, Any] | None, bool]:
        """What it answers when it is asked to open, and whether it was started for that, by Python with these words: when none runs, and
        in the place of another Cove's. Raises `CoveError`.
        """
        self.make()
        with FileLock(self.launch_lock) as lock:
            lock.acquire(LAUNCH_S, f"the start of {self.words}")
            told = self.asked("open")
            if told is not None and told.get("version") == version:
                return told, False
            if told is not None:
                self.end()
            self._start(words, start_s)
            return self.asked("open"), True

    def end(self) -> bool:
        """End it if it runs, wait for that, and say whether it did. Raises `CoveError`."""
        if not self.folder.is_dir() or self.asked("end") is None:
            return False
        self._wait_until_free()
        return True

    def _wait_until_free(self) -> None:
        lock = FileLock(self.lock)
        lock.acquire(END_S, self.words)
        lock.release()

    def _start(self, words: Sequence[str], start_s: float) -> None:
        """Raises `CoveError`."""
        self._wait_until_free()  # one that is just ending
        with self.log.open("ab") as log:
            started = [sys.executable, *words]
            process = processes.start(started, log, inherited=(), folder=self.folder, output=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout as said:
            if not processes.says_something(said, start_s):
                process.kill()
                raise CoveError(f"the {self.kind} did not start", f"its log is {self.log}")
            if told := said.readline(MAX_LINE):
                error = json.loads(told)
                raise CoveError(error["error"], error["hint"])


def ready(error: CoveError | None = None) -> None:
    """In the process: tell whoever has started it that it answers now, or why it ends."""
    told = "" if error is None else json.dumps({"error": error.message, "hint": error.hint}) + "\n"
    with contextlib.suppress(OSError):  # nobody waits any more
        os.write(1, f"\n{told}".encode())
    os.dup2(2, 1)  # from here on both are the log


def left(kind: str) -> list[str]:
    """The machines whose processes of a kind have left files: they may run."""
    folder = Companion(kind, "default").folder
    found = folder.glob("*.lock") if folder.is_dir() else ()
    return sorted({path.name.removesuffix(".lock").removesuffix(".launch") for path in found})


async def answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, told: Callable[[Any], dict[str, Any]]
) -> None:
    """The process's side of `Companion.asked`: one question, by its operation, and one answer."""
    import asyncio  # commands, which have no use for it, load this module

    with contextlib.suppress(OSError, ValueError, AttributeError, TimeoutError):
        operation = json.loads(await asyncio.wait_for(reader.readline(), ASKED_S)).get("op")
        writer.write(json.dumps(told(operation)).encode() + b"\n")
        await writer.drain()
    writer.close()
