"""The exit record: on disk for good before anybody is told."""

import json
import os

from coved.runtime.spec import Exit


def write(path: str, code: int, oom_killed: bool, exited_at_ns: int) -> None:
    """Written whole, synced and renamed; then the folder is synced. Raises OSError."""
    record = json.dumps({"code": code, "oom_killed": oom_killed, "exited_at": exited_at_ns})
    folder = os.path.dirname(path) or "."
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, record.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)


def read(path: str) -> Exit | None:
    """The record in ``path``; None when there is none, or none that this module wrote."""
    try:
        with open(path, "rb") as file:
            record = json.load(file)
        return Exit(int(record["code"]), bool(record["oom_killed"]), int(record["exited_at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
