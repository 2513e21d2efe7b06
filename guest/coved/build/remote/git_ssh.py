"""Git servers that are spoken to over SSH, by ssh(1), whose server may be anybody: it has a process of its own for that.

As BuildKit does it: the client's forwarded agent says who asks, and nothing else does; the server's key is not held against anything,
for nobody in the engine knows it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from coved.build.errors import BuildError
from coved.build.remote.git_budget import Budget
from coved.build.remote.git_wire import Refs, Shallow, SocketServer
from coved.registry import calls
from coved.registry.wire import STALL_SECONDS

AGENT = "default"
"""Which of the client's agents is asked."""
# ssh(1) reads options where they are: nothing here begins with "-".
_HOST = re.compile(r"[0-9A-Za-z_:][0-9A-Za-z_.:-]*")
_USER = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.+@-]*")
_SAID_MAX = 2000
_OPTIONS = (
    "BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null",
    "PreferredAuthentications=publickey", "IdentityFile=none", "LogLevel=ERROR", f"ConnectTimeout={int(STALL_SECONDS)}",
)  # fmt: skip


class Place(NamedTuple):
    user: str
    host: str
    port: int | None
    path: str


def place(remote: str) -> Place:
    """Of ``ssh://user@host:port/path`` or ``user@host:path`` (git-fetch(1), GIT URLS). Raises BuildError."""
    if "://" in remote:
        parts = urlsplit(remote)
        try:
            port = parts.port
        except ValueError:
            raise BuildError(f"'{remote}' has no port that could be one") from None
        login, _, _ = parts.netloc.rpartition("@")
        user, host = login.partition(":")[0], parts.hostname or ""
        path = parts.path.removeprefix("/") if parts.path.startswith("/~") else parts.path
    else:
        login, _, path = remote.partition(":")
        user, _, host = login.rpartition("@")
        port = None
    if not _HOST.fullmatch(host) or (user and not _USER.fullmatch(user)) or "\0" in path or not path:
        raise BuildError(f"'{remote}' names no repository")
    return Place(user, host, port, path)


def command(program: str, where: Place) -> list[str]:
    words = [program, "-F", "/dev/null", "-T", "-a", "-x"]
    for option in _OPTIONS:
        words += ["-o", option]
    if where.user:
        words += ["-l", where.user]
    if where.port is not None:
        words += ["-p", str(where.port)]
    quoted = where.path.replace("'", "'\\''").replace("!", "'\\!'")
    return [*words, "--", where.host, f"git-upload-pack '{quoted}'"]


class SshServer(SocketServer):
    """``agent`` is the socket of one."""

    def __init__(self, remote: str, agent: Path, budget: Budget) -> None:
        super().__init__(budget)
        self._place = place(remote)
        self._agent = agent
        self._process: subprocess.Popen[bytes] | None = None
        self._listening: threading.Thread | None = None
        self._said = b""

    def refs(self) -> Refs:
        with self._explaining():
            return super().refs()

    def fetch(self, wants: Sequence[str], *, depth: int, target: Path, meter: Callable[[int], None]) -> Shallow:
        with self._explaining():
            return super().fetch(wants, depth=depth, target=target, meter=meter)

    def close(self) -> None:
        super().close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._listening is not None:
            self._listening.join()

    def _connect(self) -> socket.socket:
        program = shutil.which("ssh")
        if program is None:
            raise BuildError("git over SSH needs ssh(1), which this system does not have")
        ours, theirs = socket.socketpair()
        try:
            calls.current().watch(ours)
            ours.settimeout(STALL_SECONDS)
            # By the folder of the agent's socket, for a socket's name may have 107 bytes only.
            self._process = subprocess.Popen(
                command(program, self._place),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
                cwd=self._agent.parent,
                env={"PATH": os.defpath, "LC_ALL": "C", "SSH_AUTH_SOCK": self._agent.name},
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        return ours

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            while data := os.read(stream.fileno(), 4096):
                self._said = (self._said + data)[-_SAID_MAX:]

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """When a connection has ended, what ssh(1) or the server's git had to say is why."""
        try:
            yield
        except TimeoutError:
            raise
        except (BuildError, ConnectionError) as error:
            calls.current().check()
            if self._process is None or self._listening is None:
                raise
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
                self._listening.join(2)
            said = " ".join(self._said.decode("utf-8", "replace").split())
            raise BuildError(said or str(error)) from error
