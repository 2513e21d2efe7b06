"""One client attached to a process: docker's frames out, stdin in. Engine API, "Attach to a container"."""

import contextlib
import fcntl
import os
import socket
import struct
import termios
from collections import deque
from typing import TYPE_CHECKING, Any

from coved.runtime.detach import DetachKeys
from coved.runtime.loop import EDGE, HANGUP, READ, WRITE, Loop

if TYPE_CHECKING:
    from coved.runtime.stdio import ProcessIO

_HIGH_WATER = 1024 * 1024  # as much as a slow client may have waiting before the process has to wait too
_READ_SIZE = 64 * 1024
_header = struct.Struct(">BxxxI").pack
_count = struct.Struct("=i")
# The kernel keeps count of a buffer by one byte while it tells that the buffer is free (sock_wfree); a buffer that is in
# use counts hundreds of bytes.
_BEING_FREED = 64
_STREAMS = {"stdout": 1, "stderr": 2}


class Client:
    """Takes over a client's connection; closes it when the process's output is all written, or the client is gone."""

    def __init__(self, loop: Loop, fd: int, gate: int, options: dict[str, Any], stdio: "ProcessIO") -> None:
        """``gate``: a pipe's read end to take over; no output is written before the other end is closed. Or -1."""
        self._loop = loop
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(False)
        self._fd = fd
        self._stdio = stdio
        self._outputs = {name for name in _STREAMS if options[name]}
        self._raw = bool(options["raw"])
        self._keys = DetachKeys(options["detach_keys"])
        self._out: deque[bytes | memoryview] = deque()
        self._out_size = 0
        self._wants_stdin = bool(options["stdin"])
        self._reading = True
        self._closed = False
        self._finishing = False
        # The engine's answer to the attach may still be on its way. A client that reads it together with output may
        # lose that output (docker-py does, which reads the answer with a buffer and goes on without it).
        self._answer_unread = gate < 0  # with a gate the engine has seen to that, and goes on writing
        self._gate = gate
        if gate >= 0:
            loop.watch(gate, 0, self._on_gate)
        if options["pending"]:
            self._take_input(options["pending"])
        self.refresh()

    @property
    def congested(self) -> bool:
        # Behind its gate, what the log has is being written: it shall not grow meanwhile.
        return self._gate >= 0 or self._out_size >= _HIGH_WATER

    def write(self, stream: str, data: bytes) -> None:
        """Send output, or keep it until the client takes it."""
        if self._closed or stream not in self._outputs:
            return
        parts: list[bytes | memoryview] = [data] if self._raw else [_header(_STREAMS[stream], len(data)), data]
        size = sum(map(len, parts))
        if not self._out and self._gate < 0 and not self._awaits_reader():
            try:
                sent = self._sock.sendmsg(parts)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close()
                return
            if sent == size:
                return
            size -= sent
            while sent:
                if sent >= len(parts[0]):
                    sent -= len(parts.pop(0))
                else:
                    parts[0] = memoryview(parts[0])[sent:]
                    sent = 0
        self._out.extend(parts)
        self._out_size += size
        self.refresh()

    def _awaits_reader(self) -> bool:
        """Whether what was sent before the first output has not been taken yet."""
        if self._answer_unread:
            (queued,) = _count.unpack(fcntl.ioctl(self._fd, termios.TIOCOUTQ, bytes(_count.size)))
            self._answer_unread = queued > _BEING_FREED
        return self._answer_unread

    def finish(self) -> None:
        """No more output comes: close as soon as all is written."""
        self._finishing = True
        if not self._out and self._gate < 0:
            self.close()

    def _on_gate(self, events: int) -> None:
        """The engine has written all that came before, or has ended."""
        self._close_gate()
        if self._finishing and not self._out:
            self.close()
        else:
            self.refresh()
        self._stdio.refresh_outputs()

    def _close_gate(self) -> None:
        if self._gate >= 0:
            self._loop.unwatch(self._gate)
            os.close(self._gate)
            self._gate = -1

    def refresh(self) -> None:
        """Watch for what is wanted now; called again when the process's stdin has room."""
        if self._closed:
            return
        events = WRITE if self._out and self._gate < 0 else 0
        if self._out and self._answer_unread:
            events |= EDGE  # a socket with an unread answer is writable: what counts is when some of it is taken
        if self._reading and (not self._wants_stdin or self._stdio.wants_input):
            events |= READ
        self._loop.watch(self._fd, events, self._on_event)

    def _on_event(self, events: int) -> None:
        if events & HANGUP and self._reading and self._wants_stdin and not self._stdio.wants_input:
            # Gone, but with input that the process shall still have: look again when there is room.
            self._loop.unwatch(self._fd)
        elif events & READ or (events & HANGUP and self._reading):
            self._read()
        elif events & HANGUP:
            self.close()
        if not self._closed and events & WRITE:
            self._flush()

    def _read(self) -> None:
        more = True
        while more:
            try:
                data = self._sock.recv(_READ_SIZE)
            except BlockingIOError:
                break
            except OSError:
                self._end_input()
                self.close()
                return
            if data:
                self._take_input(data)
            else:
                self._end_input()
            # Edges are told once: there, nothing that is to be read may be left.
            more = self._answer_unread and self._reading and (not self._wants_stdin or self._stdio.wants_input)
        self.refresh()

    def _take_input(self, data: bytes) -> None:
        if not self._wants_stdin:
            return
        data, detached = self._keys.feed(data)
        if data:
            self._stdio.write_input(data)
        if detached:
            self._reading = False
            self._stdio.client_detached()
            self.finish()

    def _end_input(self) -> None:
        """The client has shut down its sending side, or is gone. Its output goes on."""
        if not self._reading:
            return
        self._reading = False
        if self._wants_stdin:
            if held := self._keys.flush():
                self._stdio.write_input(held)
            self._stdio.end_input()

    def _flush(self) -> None:
        if self._awaits_reader():
            return
        was_congested = self.congested
        try:
            while self._out:
                parts = [self._out[index] for index in range(min(64, len(self._out)))]
                sent = self._sock.sendmsg(parts)
                self._out_size -= sent
                while sent:
                    first = self._out.popleft()
                    if sent < len(first):
                        self._out.appendleft(memoryview(first)[sent:])
                        sent = 0
                    else:
                        sent -= len(first)
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if was_congested and not self.congested:
            self._stdio.refresh_outputs()
        if self._finishing and not self._out:
            self.close()
        else:
            self.refresh()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._end_input()
        self._close_gate()
        self._loop.unwatch(self._fd)
        with contextlib.suppress(OSError):  # the client may have been faster
            self._sock.shutdown(socket.SHUT_RDWR)
            # Closed with input that nobody has read, the connection would end with a reset instead (unix(7)): a client
            # whose process took no more of its input would take that for an error. No more can come.
            while self._sock.recv(_READ_SIZE):
                pass
        self._sock.close()
        self._out.clear()
        self._out_size = 0
        self._stdio.client_closed(self)
