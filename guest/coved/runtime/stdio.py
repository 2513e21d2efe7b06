"""A process's stdin, stdout and stderr in the shim: pipes or a terminal's master, the log, attached clients."""

import errno
import os
from collections import deque
from typing import TYPE_CHECKING, Any

from coved.runtime import terminal
from coved.runtime.attach import Client
from coved.runtime.loop import HANGUP, READ, WRITE, Loop, Timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from coved.runtime.logfile import LogFile

_READ_SIZE = 64 * 1024
_INPUT_LIMIT = 256 * 1024
# After its end, others may still hold a process's pipes (children of an exec); dockerd waits as long for them.
_DRAIN_S = 2.0
# What a pipe holds at most, for those without privileges (pipe(7)).
_PIPE_SIZE = 1024 * 1024


class ProcessIO:
    """Made before the process; ``child_ends`` are what it gets, to be closed here once it has been made."""

    def __init__(
        self,
        loop: Loop,
        options: dict[str, Any],
        log: "LogFile | None",
        *,
        stdin_once: bool,
        on_idle: "Callable[[ProcessIO], None]",
        on_detach: "Callable[[ProcessIO], None]",
    ) -> None:
        self._loop = loop
        self._on_idle = on_idle
        self._on_detach = on_detach
        self._log = log
        self._clients: list[Client] = []
        self._outputs: dict[int, str] = {}
        self._input = -1
        self._pending: deque[bytes | memoryview] = deque()
        self._pending_size = 0
        self._end_after_pending = False
        self._stdin_once = stdin_once
        self._on_drained: Callable[[], None] | None = None
        self._timer: Timer | None = None
        self._paused = False
        self._ended = False
        self.is_terminal = bool(options["terminal"])
        self._open_stdin = bool(options["open_stdin"])
        self.size = (int(options["height"]), int(options["width"]))
        self.child_ends: tuple[int, int, int] | None = None
        if not self.is_terminal:
            self._make_pipes()

    def _make_pipes(self) -> None:
        stdin = -1
        if self._open_stdin:
            stdin, self._input = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._input, False)
        ends = [stdin]
        for name in ("stdout", "stderr"):
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(read_end, False)
            self._outputs[read_end] = name
            ends.append(write_end)
        self.child_ends = (ends[0], ends[1], ends[2])

    def close_child_ends(self) -> None:
        for fd in self.child_ends or ():
            if fd >= 0:
                os.close(fd)
        self.child_ends = None

    def set_terminal(self, master: int) -> None:
        """The process has made its terminal and sent the master side."""
        os.set_blocking(master, False)
        self._outputs[master] = "stdout"
        if self._open_stdin:
            self._input = master

    def begin(self) -> None:
        """Start to move bytes."""
        self.refresh_outputs()
        self._write_pending()

    def attach(self, fd: int, options: dict[str, Any], gate: int = -1) -> tuple[int, int] | None:
        """Take over a client's connection. When nothing will come any more it is closed at once.

        With a ``gate`` (see :class:`Client`) the client gets all that follows what is in the log now: up to where
        that is, see :meth:`LogFile.position`.
        """
        client = Client(self._loop, fd, gate, options, self)
        self._clients.append(client)
        position = None
        if gate >= 0 and self._log is not None:
            position = self._log.position()
            for name, data in self._log.unfinished().items():
                client.write(name, data)
        if gate >= 0:
            self.refresh_outputs()
        if self._ended:
            client.finish()
        return position

    def resize(self, height: int, width: int) -> None:
        self.size = (height, width)
        if self.is_terminal:
            for fd in self._outputs:
                terminal.set_size(fd, height, width)

    # --- output

    def refresh_outputs(self) -> None:
        """Read on, unless a client has too much waiting: then the process waits with it."""
        self._paused = any(client.congested for client in self._clients)
        for fd in self._outputs:
            self._loop.watch(fd, self._output_events(fd), self._on_output)

    def _output_events(self, fd: int) -> int:
        events = 0 if self._paused else READ
        if fd == self._input and self._pending:
            events |= WRITE
        return events

    def _on_output(self, events: int) -> None:
        for fd in list(self._outputs):
            # A pipe that nobody writes to any more holds little, and would be told of again and again.
            if not self._paused or events & HANGUP:
                self._read_output(fd)
        if self._input in self._outputs and events & WRITE:
            self._write_pending()

    def _read_output(self, fd: int) -> int:
        """How many bytes there were."""
        data = _read(fd)
        if data is None:
            return 0
        if self.is_terminal and data:
            # A terminal passes "line\n" on as "line" and "\r\n", a moment apart; clients shall see the line at once.
            data += _read(fd) or b""
        name = self._outputs[fd]
        if not data:
            self._close_output(fd)
            return 0
        if self._log is not None:
            self._log.feed(name, data)
        for client in list(self._clients):
            client.write(name, data)
        if any(client.congested for client in self._clients):
            self.refresh_outputs()
        return len(data)

    def _close_output(self, fd: int) -> None:
        self._loop.unwatch(fd)
        name = self._outputs.pop(fd)
        if fd == self._input:
            self._input = -1
            self._discard_pending()
        os.close(fd)
        if self._log is not None:
            self._log.finish(name)
        if not self._outputs:
            self._drained()

    # --- the end

    def drain(self, on_drained: "Callable[[], None]") -> None:
        """The process has ended: read what is left, then close everything and call back, within two seconds."""
        self._on_drained = on_drained
        self._close_input()
        for fd in list(self._outputs):
            # What is in the pipe now is all there is in most cases; it fits in a client's buffer on top of its limit. What
            # others write meanwhile waits for the client, as before.
            size = 0
            while fd in self._outputs and size <= _PIPE_SIZE and self._readable(fd):
                size += self._read_output(fd)
        if not self._outputs:
            self._drained()
        else:
            self.refresh_outputs()
            self._timer = self._loop.call_later(_DRAIN_S, self._give_up)

    @staticmethod
    def _readable(fd: int) -> bool:
        import select  # in sys.modules already

        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(0))

    def _give_up(self) -> None:
        for fd in list(self._outputs):
            self._close_output(fd)

    def _drained(self) -> None:
        """All output has been read; a process that has closed its output may go on running."""
        if self._on_drained is None or self._ended:
            return
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        # The engine hears of the end first: a client that sees its stream close asks for the exit status next.
        callback, self._on_drained = self._on_drained, None
        callback()
        for client in list(self._clients):
            client.finish()
        self._check_idle()

    def abandon(self) -> None:
        """The process was never executed: let go of everything."""
        self.close_child_ends()
        self._close_input()
        for fd in list(self._outputs):
            self._loop.unwatch(fd)
            os.close(fd)
        self._outputs.clear()
        self._ended = True
        for client in list(self._clients):
            client.finish()
        self._check_idle()

    def _check_idle(self) -> None:
        if self._ended and not self._clients:
            self._on_idle(self)

    def client_detached(self) -> None:
        self._on_detach(self)

    def client_closed(self, client: Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self._check_idle()
        if self._paused:
            self.refresh_outputs()

    # --- input

    @property
    def wants_input(self) -> bool:
        """Whether clients shall be read from: not while a lot is waiting for the process. Input of a process that has
        closed its stdin is read and dropped."""
        return self._pending_size < _INPUT_LIMIT

    def write_input(self, data: bytes) -> None:
        if self._ended or not self._open_stdin or self._end_after_pending:
            return
        if self._input < 0 and not (self.is_terminal and not self._outputs):
            return
        self._pending.append(data)
        self._pending_size += len(data)
        self._write_pending()

    def end_input(self) -> None:
        """A client has no more to say. A terminal's stdin stays open."""
        if self._stdin_once and not self.is_terminal:
            self._end_after_pending = True
            if not self._pending:
                self._close_input()

    def _write_pending(self) -> None:
        fd = self._input
        if fd < 0:
            return
        was_full = not self.wants_input
        try:
            while self._pending:
                written = os.write(fd, self._pending[0])
                self._pending_size -= written
                first = self._pending.popleft()
                if written < len(first):
                    self._pending.appendleft(memoryview(first)[written:])
        except BlockingIOError:
            pass
        except OSError:  # EPIPE: the process has closed its stdin
            self._close_input()
        if self._input >= 0:
            if not self._pending and self._end_after_pending:
                self._close_input()
            elif fd in self._outputs:
                self._loop.watch(fd, self._output_events(fd), self._on_output)
            elif self._pending:
                self._loop.watch(fd, WRITE, lambda events: self._write_pending())
            else:
                self._loop.unwatch(fd)
        if was_full and self.wants_input:
            self._refresh_clients()

    def _close_input(self) -> None:
        if self._input >= 0 and self._input not in self._outputs:
            self._loop.unwatch(self._input)
            os.close(self._input)
            self._input = -1
        self._discard_pending()

    def _discard_pending(self) -> None:
        was_full = not self.wants_input
        self._pending.clear()
        self._pending_size = 0
        if was_full:
            self._refresh_clients()

    def _refresh_clients(self) -> None:
        for client in list(self._clients):
            client.refresh()


def _read(fd: int) -> bytes | None:
    """None when there is nothing yet, b"" at the end."""
    try:
        return os.read(fd, _READ_SIZE)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno != errno.EIO:  # a terminal whose other side is closed
            raise
        return b""
