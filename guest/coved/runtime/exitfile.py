"""The exit record: written before anybody is told, and on disk for good where no engine is there to note the end."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coved.runtime.spec import Exit


def write(path: str, code: int, oom_killed: bool, exited_at_ns: int, *, sync: bool) -> None:
    """Written whole and renamed: a kill leaves all of it or nothing. ``sync``: so does the machine's death, once this returns.

    Raises OSError.
    """
    record = json.dumps({"code": code, "oom_killed": oom_killed, "exited_at": exited_at_ns})
    folder = os.path.dirname(path) or "."
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, record.encode())
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    if not sync:
        return
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)


def read(path: str) -> Exit | None:
    """The record in ``path``; None when there is none, or none that this module wrote."""
    from coved.runtime.spec import Exit  # which no shim needs

    try:
        with open(path, "rb") as file:
            record = json.load(file)
        return Exit(int(record["code"]), bool(record["oom_killed"]), int(record["exited_at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
