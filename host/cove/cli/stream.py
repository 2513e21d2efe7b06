"""An attached container's input and output: Docker's 8-byte frames, half-close, raw terminals, detach keys.

The calling thread moves output, because it alone receives signals; a daemon thread moves input, because a read of
stdin cannot be given up portably when the container ends first.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator

from cove.cli.client import Hijacked
from cove.cli.errors import CliError, ConnectionFailed, Detached

CHUNK = 65536
INPUT_CHUNK = 1 << 18
MAX_FRAME = 1 << 30
DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"


def parse_detach_keys(keys: str) -> bytes:
    """`ctrl-p,ctrl-q` as the bytes that a terminal sends. Raises `CliError`."""
    result = bytearray()
    for key in keys.split(","):
        if (
            key.startswith("ctrl-")
            and len(key) == 6
            and (code := "@abcdefghijklmnopqrstuvwxyz[\\]^_".find(key[5])) >= 0
        ):
            result.append(code)
        elif len(key) == 1 and key.isascii():
            result += key.encode()
        else:
            raise CliError(f"invalid detach keys ({keys}): unknown character: '{key}'")
    return bytes(result)


class DetachFilter:
    """Looks for the detach keys in what is typed. A prefix of them is held back until it is clear what it becomes."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """The bytes to send on, and whether the keys were completed (what came after them is dropped)."""
        if not self._held and (not self._keys or self._keys[0] not in data):
            return data, False
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._held]:
                self._held += 1
                if self._held == len(self._keys):
                    return bytes(out), True
                continue
            out += self._keys[: self._held]
            self._held = 0
            if byte == self._keys[0]:
                self._held = 1
            else:
                out.append(byte)
        return bytes(out), False


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def frames(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (stream, bytes) of the frames in `chunks`, in parts as they come: 0 and 1 are stdout, 2 is stderr.

    A frame is [stream, 0, 0, 0, 4-byte big-endian size] and its bytes (ContainerAttach in the API's description).
    Raises `CliError` with the engine's own words, `ConnectionFailed` for what is no frame.
    """
    buffer = bytearray()
    kind = left = 0
    for chunk in chunks:
        buffer += chunk
        while buffer:
            if left == 0:
                if len(buffer) < 8:
                    break
                kind, left = buffer[0], int.from_bytes(buffer[4:8], "big")
                del buffer[:8]
                if kind == 3:
                    raise CliError(f"error from daemon in stream: {bytes(buffer[:left]).decode(errors='replace')}")
                if kind > 3 or left > MAX_FRAME:
                    raise ConnectionFailed(f"unrecognized input header: {kind}")
                continue
            part = bytes(buffer[:left])
            del buffer[: len(part)]
            left -= len(part)
            yield kind, part


def demultiplex(chunks: Iterable[bytes], sinks: dict[int, int]) -> None:
    """Write the frames in `chunks` to the file descriptors in `sinks` (1 stdout, 2 stderr); others are dropped."""
    for kind, part in frames(chunks):
        sink = sinks.get(kind or 1, -1)
        if sink >= 0:
            write_all(sink, part)


class Attached:
    """The client's end of an attached process. `run` returns when the stream has ended."""

    def __init__(
        self,
        connection: Hijacked,
        *,
        terminal: bool,
        stdin: int | None,
        stdout: int | None,
        stderr: int | None,
        detach_keys: bytes = b"",
    ) -> None:
        self._connection = connection
        self._terminal = terminal
        self._stdin = stdin
        self._sinks = {kind: fd for kind, fd in ((1, stdout), (2, stderr)) if fd is not None}
        self._filter = DetachFilter(detach_keys) if terminal and detach_keys else None
        self._detached = threading.Event()

    def run(self) -> None:
        """Move bytes until the end. Raises `Detached` when the user detached, `BrokenPipeError` when stdout is gone."""
        if self._stdin is None:
            self._connection.close_write()
        else:
            threading.Thread(target=self._copy_input, args=(self._stdin,), name="stdin", daemon=True).start()
        try:
            if self._terminal:
                for chunk in self._received():
                    if (out := self._sinks.get(1)) is not None:
                        write_all(out, chunk)
            else:
                demultiplex(self._received(), self._sinks)
        finally:
            self._connection.close()
        if self._detached.is_set():
            raise Detached

    def _received(self) -> Iterator[bytes]:
        if self._connection.pending:
            yield self._connection.pending
        while not self._detached.is_set():
            try:
                chunk = self._connection.sock.recv(CHUNK)
            except ConnectionResetError:
                return
            if not chunk:
                return
            yield chunk

    def _copy_input(self, fd: int) -> None:
        try:
            if self._filter is None:
                self._send_all(fd)
            elif self._send_typed(fd, self._filter):
                return
        except OSError:
            return  # the process has ended and its connection with it, or stdin cannot be read: nothing is left to send
        self._connection.close_write()

    def _send_all(self, fd: int) -> None:
        """Send what `fd` gives, through one buffer."""
        view = memoryview(bytearray(INPUT_CHUNK))
        with open(fd, "rb", buffering=0, closefd=False) as source:
            while (size := source.readinto(view)) != 0:
                if size is None:  # whoever shares the descriptor has made it non-blocking
                    select.select([fd], [], [])
                else:
                    self._connection.sock.sendall(view[:size])

    def _send_typed(self, fd: int, keys: DetachFilter) -> bool:
        """Send what is typed until the end of it; True when it was the detach keys."""
        while data := os.read(fd, CHUNK):
            out, detach = keys.feed(data)
            if out:
                self._connection.sock.sendall(out)
            if detach:
                self._detached.set()
                self._connection.sock.shutdown(socket.SHUT_RDWR)
                return True
        return False


def follow_size(resize: Callable[[int, int], None], fd: int) -> Callable[[], None]:
    """A function that reports the size of the terminal at `fd` to `resize(rows, columns)`."""
    from cove.cli import terminal

    def report() -> None:
        now = terminal.size(fd)
        if now is None or 0 in now:
            return
        try:
            resize(*now)
        except CliError:
            return  # the process is not there yet, or not any more: its size does not matter

    return report
