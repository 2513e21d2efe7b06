"""Spawner and engine: started, and started again when they end; and sshd, one process per connection."""

import contextlib
import os
import signal
import socket
import time

from coved.boot.console import say
from coved.boot.places import DATA

PYTHON = "/usr/bin/python3"
LOGS = f"{DATA}/log"
MAX_LOG = 5 << 20
QUICK_S = 2.0
"""A service that ends sooner than this after its start is started again with delay."""
MAX_DELAY_S = 5.0
MAX_SAID = 300
MAX_CONNECTIONS = 16
HOLD, LOADED = 4, 5
"""Descriptors of a service that is started held: at the end of the first it begins (and rehearses that when it reads something),
and it closes the second when it has loaded."""


class Service:
    """A program that has to run.

    Args:
        held: the words for a start where it waits (``coved.boot.held``).
    """

    def __init__(self, name: str, *arguments: str, held: tuple[str, ...] = ()) -> None:
        self.name = name
        self.words = (PYTHON, "-s", "-m", *arguments)
        self._held_words = (PYTHON, "-s", "-m", *held)
        self.pid = 0
        self.listener = -1
        """A socket that it accepts on, as its descriptor 3: what is asked while it is started again waits there."""
        self._started = 0.0
        self._delay = 0.0

    def start(self) -> None:
        self._start(self.words, open_log(self.name), {})

    def start_held(self) -> tuple[int, int]:
        """Start it before its log can be opened, so that it loads what it needs.

        Returns two descriptors: one that is at its end when it has done so, and one that lets it begin when it is closed.
        """
        wait, hold = os.pipe()
        loaded, loading = os.pipe()
        try:
            self._start(self._held_words, os.dup(2), {HOLD: wait, LOADED: loading})
        finally:
            os.close(wait)
            os.close(loading)
        return loaded, hold

    def _start(self, words: tuple[str, ...], log: int, more: dict[int, int]) -> None:
        listening = {} if self.listener < 0 else {3: self.listener}
        try:
            self.pid = spawn(words, {0: _null(), 1: log, 2: log, **listening, **more})
        finally:
            os.close(log)
        self._started = time.monotonic()

    def ended(self, status: int) -> float:
        """Take note of its end; the seconds to wait before the next start."""
        self.pid = 0
        quick = time.monotonic() - self._started < QUICK_S
        self._delay = min(max(2 * self._delay, 0.1), MAX_DELAY_S) if quick else 0.0
        # Who ends with a status has said why, and the console is all that there is to see when it cannot start.
        how = f"signal {-status}" if status < 0 else f"status {status}{': ' if (last := said(self.name)) else ''}{last}"
        say(f"{self.name} ended with {how}; starting it again (its log: {LOGS}/{self.name}.log)")
        return self._delay


def spawn(words: tuple[str, ...], descriptors: dict[int, int]) -> int:
    """Start a program in its own session, with these descriptors, signals as they are by default."""
    actions = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in descriptors.items()]
    return os.posix_spawn(
        words[0],
        words,
        os.environ,
        file_actions=actions,
        setsid=True,
        setsigmask=[],
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
    )


def open_log(name: str) -> int:
    """The log of a service, to append to; one that has grown too long becomes ``.1``. The console, when the disk has no room."""
    path = f"{LOGS}/{name}.log"
    try:
        os.makedirs(LOGS, 0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_size > MAX_LOG:
                os.replace(path, f"{path}.1")
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        return os.dup(2)


def said(name: str) -> str:
    """The last line of a service's log; nothing when there is none."""
    try:
        with open(f"{LOGS}/{name}.log", "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "".join(character if character.isprintable() else "?" for character in last[:MAX_SAID])


def _null() -> int:
    global _null_descriptor
    if _null_descriptor < 0:
        _null_descriptor = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    return _null_descriptor


_null_descriptor = -1


class Ssh:
    """Listens for PID 1, so that no daemon has to wait, and starts ``sshd -i`` (sshd(8)) for each connection."""

    def __init__(self) -> None:
        os.makedirs("/run/sshd", 0o755, exist_ok=True)
        self.listener = socket.create_server(("0.0.0.0", 22), backlog=64)
        self.listener.setblocking(False)
        self.children: set[int] = set()

    def accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return
        with connection:
            connection.setblocking(True)
            if len(self.children) >= MAX_CONNECTIONS:
                return
            log = open_log("sshd")
            try:
                descriptor = connection.fileno()
                self.children.add(spawn(("/usr/sbin/sshd", "-i", "-e"), {0: descriptor, 1: descriptor, 2: log}))
            finally:
                os.close(log)
