"""Sockets at paths, for this user alone. On Windows, whose Python has no unix sockets, a named pipe is behind each, and at the path is a
file that says which.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any, Protocol

KIND, EXAMPLE = (
    ("named pipe", "npipe:////./pipe/NAME") if sys.platform == "win32" else ("unix socket", "unix:///path/docker.sock")
)
"""What docker's engines listen on, and a URL of one (`at`)."""


class Listener(Protocol):
    """What `socket.socket` has as well."""

    def accept(self) -> tuple[socket.socket, Any]: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...

    def fileno(self) -> int:
        """Below 0 when it is closed."""


if sys.platform == "win32":
    _PIPES = "\\\\.\\pipe\\"

    def listen(path: Path, backlog: int) -> Listener:
        """A listener at `path` in the place of what a dead process left there. Raises `OSError`."""
        from cove.local import pipes

        return pipes.listen(path)

    def connect(path: Path, timeout_s: float) -> socket.socket:
        """A connection to who listens at `path`, or has the pipe that it is: this user, or a service. Raises `OSError`."""
        from cove.local import pipes

        if _is_pipe(path):
            return pipes.open_pipe(str(path), timeout_s, or_of=pipes.SERVICES)
        return pipes.connect(path, timeout_s)

    def url(path: Path) -> str:
        """For docker's client."""
        from cove.local import pipes

        return "npipe://" + (str(path) if _is_pipe(path) else pipes.name(path)).replace("\\", "/")

    def at(url: str) -> Path | None:
        """The place that a URL of docker's leads to; None when it is none of this system."""
        path = Path(url.removeprefix("npipe://").replace("/", "\\"))
        return path if url.startswith("npipe://") and _is_pipe(path) else None

    def _is_pipe(path: Path) -> bool:
        return str(path).lower().startswith(_PIPES) and len(str(path)) > len(_PIPES)

    def shown(path: Path) -> str:
        """As people are told of it: what they can hand on."""
        return url(path)

else:

    def listen(path: Path, backlog: int) -> socket.socket:
        """A listening socket at `path` (0600) in the place of what a dead process left there. Raises `OSError`."""
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            mask = os.umask(0o177)
            try:
                listener.bind(str(path))
            finally:
                os.umask(mask)
            listener.listen(backlog)
        except BaseException:
            listener.close()
            raise
        return listener

    def connect(path: Path, timeout_s: float) -> socket.socket:
        """A connection to who listens at `path`. Raises `OSError`."""
        made = socket.socket(socket.AF_UNIX)
        try:
            made.settimeout(timeout_s)
            made.connect(str(path))
            made.settimeout(None)
        except BaseException:
            made.close()
            raise
        return made

    def url(path: Path) -> str:
        """For docker's client."""
        return f"unix://{path}"

    def shown(path: Path) -> str:
        """As people are told of it: what they can hand on."""
        return str(path)

    def at(url: str) -> Path | None:
        """The place that a URL of docker's leads to; None when it is none of this system."""
        path = url.removeprefix("unix://")
        return Path(path) if url.startswith("unix:///") else None
