"""The user's terminal: is it one, how large, raw or not. The only module that knows which operating system this is."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FORWARDED_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
"""What --sig-proxy passes on to the container, where the system has it."""


def is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


def size(fd: int) -> tuple[int, int] | None:
    """(rows, columns) of the terminal at `fd`; None where there is none."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return None
    return rows, columns


@contextmanager
def raw_mode(fd: int) -> Iterator[None]:
    """Keys go through unread and unechoed for the length of the `with`; the former mode is restored whatever
    happens.
    """
    if sys.platform == "win32":
        from cove.cli.windows_console import raw_mode as windows_raw_mode

        with windows_raw_mode():
            yield
        return
    import termios
    import tty

    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def signals_to(forward: Callable[[str], None] | None, resized: Callable[[], None] | None) -> Iterator[None]:
    """Give signals to `forward` (by name, "INT") and size changes to `resized` for the length of the `with`.

    Both run in a thread of their own, never inside the handler, so that they may talk to the engine.
    """
    import queue
    import threading

    jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
    former: dict[signal.Signals, object] = {}
    if forward is not None:
        for name in FORWARDED_SIGNALS:
            number = getattr(signal, name, None)
            if number is not None:
                job = _bound(forward, name.removeprefix("SIG"))
                former[number] = signal.signal(number, lambda *_, job=job: jobs.put(job))
    window_change = getattr(signal, "SIGWINCH", None)
    if resized is not None and window_change is not None:
        former[window_change] = signal.signal(window_change, lambda *_: jobs.put(resized))

    def work() -> None:
        while (job := jobs.get()) is not None:
            job()

    worker = threading.Thread(target=work, name="signals", daemon=True)
    worker.start()
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal itself returned
        jobs.put(None)


def _bound(function: Callable[[str], None], argument: str) -> Callable[[], None]:
    return lambda: function(argument)
