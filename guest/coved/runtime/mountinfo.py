"""What is mounted where, as the kernel tells it: proc_pid_mountinfo(5). Nothing of what is mounted is asked for it.

It is used in containers' namespaces, too, where nothing may be imported (``coved.runtime.view``): a codec for the escapes would be.
"""

import os
import re
from typing import NamedTuple

OWN = "/proc/self/mountinfo"
_ESCAPE = re.compile(r"\\([0-3][0-7]{2})")


class Entry(NamedTuple):
    device: str
    """The file system's, MAJOR:MINOR."""
    root: str
    """What of the file system is mounted."""
    point: str
    options: tuple[str, ...]
    """Of the mount, and not of all mounts of the file system."""
    kind: str
    of_all: tuple[str, ...]
    """The file system's options."""


def entries(path: str = OWN, dir_fd: int | None = None) -> list[Entry]:
    """The mounts of a namespace, those on top of others last. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    with open(fd, "rb") as file:
        # A name may have all that others take for the end of a line: only what the kernel itself does ends one.
        return [_entry(line) for line in os.fsdecode(file.read()).split("\n") if line]


def _entry(line: str) -> Entry:
    fields, _, rest = line.partition(" - ")
    _, _, device, root, point, options, *_ = fields.split(" ")
    kind, _, of_all = rest.split(" ", 2)
    return Entry(
        device, _unescaped(root), _unescaped(point), tuple(options.split(",")), kind,
        tuple(_unescaped(option) for option in of_all.split(",")),
    )  # fmt: skip


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
