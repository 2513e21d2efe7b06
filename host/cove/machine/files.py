"""Writing files so that a crash at any moment leaves the old one or the new one, whole."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

MAX_LOG = 2 << 20
"""Bytes of the agent's log, and of the one before it, `agent.log.1`."""
MAX_CONSOLE = 4 << 20
"""Bytes of what the guest says on its console, and of what QEMU says: cut when there is more, and the end of it kept beside it."""


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by a file with `data`: written beside it, synced, renamed. Raises `OSError`."""
    import tempfile  # 2 MB, which whoever only rotates its log (the supervisor) can do without

    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        try:
            file = os.fdopen(fd, "wb")
        except BaseException:
            os.close(fd)
            raise
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


def sweep(path: Path) -> None:
    """Remove what processes that were killed in `write_whole` have left of `path`. Nobody may be writing it. Never fails."""
    for temporary in path.parent.glob(f".{path.name}.*"):
        with contextlib.suppress(OSError):
            temporary.unlink()


def sync_folder(path: Path) -> None:
    """Have it on the disk for good which files a folder has. Raises `OSError`."""
    if sys.platform == "win32":
        return  # which has no such call
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def rotate(path: Path, max_bytes: int) -> None:
    """Rename `path` to `path`.1 when it has more than `max_bytes`, so that a log keeps at most two such files.

    Windows renames nothing that somebody has open, who reads along, for one: there its end is copied, and it is emptied.
    """
    try:
        if path.stat().st_size > max_bytes:
            path.replace(path.with_name(path.name + ".1"))
    except FileNotFoundError:
        pass
    except PermissionError:
        if sys.platform != "win32":
            raise
        cut(path, max_bytes)


def cut(path: Path, max_bytes: int) -> bool:
    """Empty a log that others append to when it has more than `max_bytes`, whose last ones are in `path`.1 then; say whether it was.

    What they write in between may be lost. Raises `OSError` when it cannot be emptied.
    """
    try:
        if path.stat().st_size <= max_bytes:
            return False
        with contextlib.suppress(OSError), path.open("rb") as file:  # no room: all the more it must go
            file.seek(-max_bytes, os.SEEK_END)
            path.with_name(path.name + ".1").write_bytes(file.read(max_bytes))
        os.truncate(path, 0)
    except FileNotFoundError:
        return False
    return True


def tail(path: Path, lines: int, max_bytes: int = 64 * 1024) -> list[str]:
    """The last `lines` lines of a text file, reading at most `max_bytes` of it; empty when there is no such file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - max_bytes))
            text = file.read(max_bytes).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return [line.rstrip("\r") for line in text.splitlines()[-lines:]]
