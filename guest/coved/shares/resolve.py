"""From a path of the user's computer to a file in the VM, by that computer's own tree: its symbolic links lead where they lead there.

A link in a shared folder that names /etc means the computer's /etc, which is not shared, and never the VM's. So no path with a link in
it is ever given to the VM's kernel: names are looked up one at a time, links are read, and what they say is looked up as a path of that
computer. What is found is a folder's mount and a path below it without links, to be opened with RESOLVE_BENEATH (openat2(2)): whoever
changes the tree meanwhile makes that fail, or gets what lies in the folder.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coved.shares.table import Share, Table

MAX_LINKS = 40
"""As the kernel's own (path_resolution(7))."""


@dataclass(frozen=True, slots=True)
class Place:
    """What of a folder a path means: ``below`` is relative, without links, "" for all of it."""

    share: Share
    below: str


class NotShared(Exception):
    """The path, or a link in it, leads to where no folder is shared. ``path``: of the user's computer."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def resolve(table: Table, path: str, mounted_at: Callable[[Share], Path], *, create: bool = False) -> Place:
    """Args:
        path: absolute, of the user's computer.
        create: make the directories that are missing, as the user's (``-v``).

    Raises NotShared, FileNotFoundError, OSError. Blocks, for as long as the user's computer takes.
    """
    if "\0" in path:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    links = MAX_LINKS
    path = table.normal(path)
    while True:
        found = table.find(path)
        if found is None:
            raise NotShared(path)
        share, below = found
        walked = _walk(mounted_at(share), [name for name in below.split("/") if name], create)
        if isinstance(walked, str):
            return Place(share, walked)
        at, link, rest = walked
        links -= 1
        if links < 0:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        # As the user's computer reads it: a link's text begins where the link is, or at the root.
        base = posixpath.join(table.normal(share.path), *at)
        target = table.normal(link) if table.normal(link).startswith("/") else posixpath.join(base, link)
        path = _normal(posixpath.join(target, *rest))


def _normal(path: str) -> str:
    # By the letters alone, also where the name before .. is a link: whatever that means then is looked up from the top like all else.
    return posixpath.normpath("/" + path.lstrip("/"))


def _walk(root: Path, names: list[str], create: bool) -> str | tuple[list[str], str, list[str]]:
    """The path without links, or a link on the way: the names before it, its text, and those after it."""
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for index, name in enumerate(names):
            try:
                one = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            except FileNotFoundError:
                if not create:
                    raise
                os.mkdir(name, 0o755, dir_fd=directory)
                one = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            os.close(directory)
            directory = one
            if stat.S_ISLNK(os.fstat(one).st_mode):
                return names[:index], os.readlink("", dir_fd=one), names[index + 1 :]
    finally:
        os.close(directory)
    return "/".join(names)
