"""A unix socket that only its own user may open, from its first instant."""

import contextlib
import os
import socket

BACKLOG = 1024


def listen(path: str | os.PathLike[str]) -> socket.socket:
    """A listening stream socket at ``path``, in place of one that is there. Raises OSError.

    It gets its name last: whoever finds it can connect.
    """
    parent, name = os.path.split(os.path.abspath(path))
    os.makedirs(parent, 0o755, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Through the folder's descriptor: the path may be longer than a socket address holds (unix(7), 107 bytes).
    folder = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    made = f".{name[:32]}.{os.getpid()}"
    old_umask = os.umask(0o177)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(made, dir_fd=folder)
        listener.bind(f"/proc/self/fd/{folder}/{made}")
        listener.listen(BACKLOG)
        os.rename(made, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        listener.close()
        with contextlib.suppress(OSError):
            os.unlink(made, dir_fd=folder)
        raise
    finally:
        os.umask(old_umask)
        os.close(folder)
    return listener
