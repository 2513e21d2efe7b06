"""Folders that a server of Cove's own serves: 9p over a port of the VM, which a process of its own carries to the kernel (``pump``); where
there is no such port, over a stream from a unix socket, which the kernel takes as it is."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from coved.shares import pump
from coved.shares.table import Share

MSIZE = 524288
CACHE = "loose"
ANSWER_S = 20.0
"""Seconds in which the server has to answer the first message; a mount that waits for longer is given up."""
DOORS = Path("/run/cove/ssh")
"""Where streams to services of the user's computer begin (`coved.streams`), TAG.sock for a folder."""
_OPTIONS = f"version=9p2000.L,msize={MSIZE},cache={CACHE},access=client"
_STREAMS_OF_9P = Path("/sys/module/9pnet_fd")
_TIME = struct.Struct("@ll")
"""As SO_SNDTIMEO has it: a struct timeval."""
_PORTS = Path("/sys/class/virtio-ports")
_pumps: dict[str, subprocess.Popen[bytes]] = {}


def mount(share: Share, call: Callable[[str], None]) -> None:
    """Args: call: mounts with the options that it is given. Raises OSError, ENOENT when there is no such port yet."""
    if (door := DOORS / f"{share.tag}.sock").exists():
        _mount_stream(door, call)
        return
    if (earlier := _pumps.get(share.tag)) is not None:
        try:
            earlier.wait(ANSWER_S)  # it ends with its mount, and has the port until then
        except subprocess.TimeoutExpired:
            earlier.kill()
            earlier.wait()
    port = os.open(_device(share.tag), os.O_RDWR | os.O_CLOEXEC)
    ours, kernels = socket.socketpair()
    with ours, kernels:
        try:
            program = [sys.executable, "-I", "-S", pump.__file__, str(port), str(ours.fileno())]
            started = subprocess.Popen(
                program, stdin=subprocess.DEVNULL, pass_fds=(port, ours.fileno()), start_new_session=True
            )
        finally:
            os.close(port)
        _pumps[share.tag] = started
        threading.Thread(target=started.wait, daemon=True).start()
        limit = threading.Timer(ANSWER_S, started.kill)
        limit.daemon = True
        limit.start()
        ours.close()  # the kernel sees the end of the pump by it
        descriptors = f"rfdno={kernels.fileno()},wfdno={kernels.fileno()}"
        try:
            call(f"trans=fd,{descriptors},{_OPTIONS}")
        except OSError:
            started.kill()
            raise
        finally:
            limit.cancel()


def _mount_stream(door: Path, call: Callable[[str], None]) -> None:
    """The mount lasts as long as the stream. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as stream:
        # What takes no connections in, keeps those who come waiting; one with a timeout of Python's own would not wait at all.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIME.pack(int(ANSWER_S), int(ANSWER_S % 1 * 1e6)))
        try:
            stream.connect(str(door))
        except BlockingIOError as error:
            raise TimeoutError(errno.ETIMEDOUT, "nobody takes the stream of this folder in") from error
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIME.pack(0, 0))
        limit = threading.Timer(ANSWER_S, stream.shutdown, (socket.SHUT_RDWR,))
        limit.daemon = True
        limit.start()
        try:
            call(f"trans=fd,rfdno={stream.fileno()},wfdno={stream.fileno()},{_OPTIONS}")
        except OSError as error:
            if _says_no_9p(error):
                raise OSError(
                    errno.EOPNOTSUPP, "the kernel of that host has no 9p (modules 9p and 9pnet_fd)"
                ) from error
            raise
        finally:
            limit.cancel()


def _says_no_9p(error: OSError) -> bool:
    """A mount without the module of streams is invalid, and so is what that module does not take."""
    if error.errno == errno.EINVAL:
        return not _STREAMS_OF_9P.exists()
    return error.errno in (errno.ENODEV, errno.EPROTONOSUPPORT)


def _device(tag: str) -> str:
    """The port by its name, as the kernel tells: there is no udev that would make links. Raises FileNotFoundError."""
    for port in _PORTS.iterdir():
        try:
            if (port / "name").read_text("ascii", "replace").strip() == f"cove.{tag}":
                return f"/dev/{port.name}"
        except OSError:
            continue
    raise FileNotFoundError(2, "No such file or directory", f"cove.{tag}")
