"""The SSH agent of this computer for the machine's containers: they may list its keys and have it sign, and nothing else.

Who asks is hostile: an agent can also be told to add keys, to remove them all, or to lock itself. A message of its protocol is
4 bytes of length and then as many, the first of which says what it is (draft-ietf-sshm-ssh-agent, sections 3 and 5).
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

from cove.errors import CoveError
from cove.local import sockets
from cove.transport.base import Stream

log = logging.getLogger(__name__)

NAME = "ssh-agent"
"""What the machine calls the service."""
REQUEST_IDENTITIES, SIGN_REQUEST = 11, 13
FAILURE = b"\x00\x00\x00\x01\x05"
LIMIT = 256 << 10
"""Bytes of one message; OpenSSH's own limit."""
MOST = 64
"""Connections at a time."""
PIPE = r"\\.\pipe\openssh-ssh-agent"
"""Where OpenSSH's agent of Windows answers."""
_CONNECT_S = 5.0


class AgentConnection(ABC):
    """One connection to an agent. Methods block and raise `OSError`."""

    @abstractmethod
    def read(self, size: int) -> bytes:
        """Up to `size` bytes, b"" at the end."""

    @abstractmethod
    def write(self, data: bytes) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """May come from another thread; a read that waits ends."""


class SocketConnection(AgentConnection):
    def __init__(self, path: str) -> None:
        self._socket = sockets.connect(
            Path(path), _CONNECT_S
        )  # it may be silent: a person has to allow it, or to touch a token

    def read(self, size: int) -> bytes:
        return self._socket.recv(size)

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class PipeConnection(AgentConnection):
    """A named pipe of Windows, which is opened as a file."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "r+b", buffering=0)  # noqa: PTH123, SIM115 - its name is no path

    def read(self, size: int) -> bytes:
        return self._file.read(size) or b""

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def close(self) -> None:
        self._file.close()


def place(setting: str, environment: Mapping[str, str] | None = None) -> str:
    """Where the agent answers that a machine with this setting (`ssh_agent`) may ask; "" when it may ask none."""
    environment = os.environ if environment is None else environment
    if setting == "none":
        return ""
    if setting != "system":
        return os.path.expanduser(setting)  # noqa: PTH111 - it may be a pipe's name
    return environment.get("SSH_AUTH_SOCK", "") or (PIPE if sys.platform == "win32" else "")


def connect(path: str) -> AgentConnection:
    """Raises `OSError`."""
    return PipeConnection(path) if path.startswith("\\\\.\\pipe\\") else SocketConnection(path)


class Service:
    """Answers the streams that the machine opens. `serve` blocks; for threads."""

    def __init__(self, path: Callable[[], str]) -> None:
        """``path``: gives where the agent is at that moment, "" for nowhere."""
        self._path = path
        self._free = threading.BoundedSemaphore(MOST)

    def serve(self, stream: Stream) -> None:
        if not self._free.acquire(blocking=False):
            log.warning("the machine has %d connections to the SSH agent already", MOST)
            stream.close()
            return
        try:
            path = self._path()
            if not path:
                log.info(
                    "the machine asks for an SSH agent, and there is none (SSH_AUTH_SOCK, or the setting ssh_agent)"
                )
                return
            try:
                agent = connect(path)
            except OSError as error:
                log.warning("the SSH agent at %s does not answer: %s", path, error.strerror or error)
                return
            try:
                self._answer(stream, agent, path)
            except (OSError, EOFError, CoveError) as error:
                log.info("a connection to the SSH agent has ended: %s", error)
            finally:
                agent.close()
        finally:
            stream.close()
            self._free.release()

    def _answer(self, stream: Stream, agent: AgentConnection, path: str) -> None:
        while request := _message(stream.recv):
            if self._path() != path:  # the setting ssh_agent counts at once, also for who has asked before
                raise EOFError("another agent is to be asked now, or none")
            answer = FAILURE
            if request[4:5] and request[4] in (REQUEST_IDENTITIES, SIGN_REQUEST):
                agent.write(request)
                answer = _message(agent.read)
                if not answer:
                    raise EOFError("the agent does not answer any more")
            stream.sendall(answer)


def _message(read: Callable[[int], bytes]) -> bytes:
    """A whole message; b"" at the end. Raises `EOFError` for a part of one, and for what is too long."""
    data = b""
    wanted = 4
    while len(data) < wanted:
        piece = read(wanted - len(data))
        if not piece:
            if data:
                raise EOFError("it ended amid a message")
            return b""
        data += piece
        if len(data) == 4 and wanted == 4:
            wanted += int.from_bytes(data, "big")
            if wanted > LIMIT:
                raise EOFError("a message is too long")
    return data
