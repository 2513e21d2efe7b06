"""Compression of rotated log files, in a process of its own that the shim forks and forgets: it costs the shim nothing.

The process lives in the machine's pid namespace, not in the container's, where the shim's other children are born:
there the container's root could see, stop and trace it. It writes a file beside the log; every rename is the shim's.
"""

import contextlib
import os
import signal
from typing import TYPE_CHECKING, NoReturn

from coved.runtime import syscalls
from coved.runtime.loop import READ, Loop

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK = 256 * 1024
_LEVEL = 3  # twice as fast as gzip's own choice, and a few percent larger
_NICE = 15  # what runs in containers goes first


class Compressor:
    """At most one file at a time."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._pid = 0
        self._pidfd = -1
        self._on_end: Callable[[bool], None] | None = None

    @property
    def busy(self) -> bool:
        return self._pid != 0

    def start(self, source: str, target: str, extra: bytes, on_end: "Callable[[bool], None]") -> None:
        """gzip ``source`` into ``target``, with ``extra`` in its header; then tell whether that went well.

        Raises OSError when there can be no process.
        """
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self._pid = _fork_outside()
            if self._pid == 0:
                _work(fd, target, extra)
        finally:
            os.close(fd)
        self._on_end = on_end
        self._pidfd = os.pidfd_open(self._pid)
        self._loop.watch(self._pidfd, READ, lambda events: self._ended())

    def kill(self) -> None:
        """End at once; the callback is called, with no success."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._ended()

    def _ended(self) -> None:
        self._loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        _, status = os.waitpid(self._pid, 0)
        self._pid, self._pidfd = 0, -1
        callback, self._on_end = self._on_end, None
        if callback is not None:
            callback(status == 0)


def _fork_outside() -> int:
    """fork(2) into the pid namespace that this process itself lives in, wherever its children are born otherwise."""
    own, others = (os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in ("pid", "pid_for_children"))
    try:
        syscalls.setns(own, syscalls.CLONE_NEWPID)
        try:
            return os.fork()
        finally:
            syscalls.setns(others, syscalls.CLONE_NEWPID)
    finally:
        os.close(own)
        os.close(others)


def _work(source: int, target: str, extra: bytes) -> NoReturn:
    status = 1
    try:
        # Whoever waits for the end of a stream must not wait for this process too.
        os.closerange(3, source)
        os.closerange(source + 1, os.sysconf("SC_OPEN_MAX"))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with contextlib.suppress(OSError):
            os.nice(_NICE)
            with open("/proc/self/oom_score_adj", "wb", 0) as file:
                file.write(b"500")  # the shim's own protection is not for this
        gzip(source, target, extra)
        status = 0
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(target)
    finally:
        os._exit(status)


def gzip(source: int, target: str, extra: bytes) -> None:
    """RFC 1952, with ``extra`` as the header's FEXTRA field. Raises OSError; ``target`` must not exist."""
    import zlib  # only here: not in the shim

    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    try:
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        head = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff" + len(extra).to_bytes(2, "little") + extra
        _write_all(out, head)
        checksum = size = 0
        while data := os.read(source, _BLOCK):
            checksum = zlib.crc32(data, checksum)
            size += len(data)
            _write_all(out, packer.compress(data))
        end = checksum.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
        _write_all(out, packer.flush() + end)
        os.fsync(out)  # the original is removed next
    finally:
        os.close(out)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
