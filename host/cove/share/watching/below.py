"""Files of a shared folder, to which no symlink leads out of it: a container may put one on the way at any moment."""

from __future__ import annotations

import os
import stat
from pathlib import Path

OPEN = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
"""A directory that is no link."""
_BY_DESCRIPTOR = os.open in os.supports_dir_fd
"""Not on Windows, where the links that containers make are followed by no program of its own (`cove.share.ninep.windows`), and each
directory on the way is looked at."""
SURROGATE = 0x20000000
"""Windows' mark of what stands for something with another name, of which Python takes one kind alone for a link."""


def open_below(within: Path, folder: Path) -> int:
    """A descriptor of a folder, on the way to which from ``within`` no symlink is followed. Raises OSError."""
    fd = os.open(within, OPEN & ~getattr(os, "O_NOFOLLOW", 0))
    for name in folder.relative_to(within).parts:
        try:
            below = os.open(name, OPEN, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def lstat_below(within: Path, path: Path) -> os.stat_result | None:
    """Of a file that is reached as by `open_below`; None when there is none."""
    try:
        if not _BY_DESCRIPTOR:
            place = within
            for name in path.parent.relative_to(within).parts if path != within else ():
                place /= name
                if not stat.S_ISDIR(kind(place.lstat())):
                    return None
        if not _BY_DESCRIPTOR or path == within:
            return path.lstat()
        fd = open_below(within, path.parent)
        try:
            return os.stat(path.name, dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)
    except (OSError, ValueError):
        return None


def kind(found: os.stat_result) -> int:
    """What a file is (`stat.S_IFMT`)."""
    return stat.S_IFLNK if getattr(found, "st_reparse_tag", 0) & SURROGATE else stat.S_IFMT(found.st_mode)
