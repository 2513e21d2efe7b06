"""A unix socket that only its own user may open, from its first instant."""

import contextlib
import os
import socket
from pathlib import Path

BACKLOG = 1024


def listen(path: Path) -> socket.socket:
    """A listening stream socket at ``path``, in place of one that is there. Raises OSError."""
    path.parent.mkdir(0o755, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Through the folder's descriptor: the path may be longer than a socket address holds (unix(7), 107 bytes).
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    old_umask = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(old_umask)
        os.close(folder)
    return listener
