"""The user's terminal: is it one, how large, raw or not. The only module that knows which operating system this is."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cove.cli.errors import CliError, ForcedExit

FORWARDED_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
"""What --sig-proxy passes on to the container, where the system has it."""
TERMINATIONS = ("SIGINT", "SIGTERM")
"""What a user sends who wants the command itself to end; docker's ends at the third, whatever the container does."""
PATIENCE = 3


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
def unechoed(fd: int) -> Iterator[None]:
    """What is typed is not shown for the length of the `with`; the former mode is restored whatever happens. Raises
    `CliError` when `fd` is no terminal.
    """
    if sys.platform == "win32":
        from cove.cli.windows_console import unechoed as windows_unechoed

        with windows_unechoed():
            yield
        return
    import termios

    try:
        before = termios.tcgetattr(fd)
    except termios.error as error:
        raise CliError(str(error.args[1]).lower()) from error
    quiet = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    try:
        termios.tcsetattr(fd, termios.TCSANOW, quiet)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


@contextmanager
def drawing() -> Iterator[None]:
    """The terminal obeys what moves its cursor for the length of the `with`; only Windows has to be asked."""
    if sys.platform == "win32":
        from cove.cli.windows_console import drawing as windows_drawing

        with windows_drawing():
            yield
        return
    yield


@contextmanager
def signals_to(
    forward: Callable[[str], None] | None, resized: Callable[[], None] | None, *, enduring: bool = False
) -> Iterator[None]:
    """Give signals to `forward` (by name, "INT") and size changes to `resized` for the length of the `with`.

    Both run in a thread of their own, never inside the handler, so that they may talk to the engine. When `enduring`, or
    with `forward`, INT and TERM end the command only when `PATIENCE` of them have come: then `ForcedExit` is raised in the
    calling thread.
    """
    import queue
    import threading

    jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
    former: dict[signal.Signals, object] = {}
    left = PATIENCE

    def terminated() -> None:
        nonlocal left
        left -= 1
        if left == 0:  # once: a further one must not cut short the restoring of the terminal
            raise ForcedExit

    def take(name: str) -> None:
        number = getattr(signal, name, None)
        if number is None:
            return
        job = _bound(forward, name.removeprefix("SIG")) if forward is not None else None

        def handler(*_: object) -> None:
            if job is not None:
                jobs.put(job)
            if name in TERMINATIONS:
                terminated()

        former[number] = signal.signal(number, handler)

    for name in FORWARDED_SIGNALS if forward is not None else TERMINATIONS if enduring else ():
        take(name)
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
