"""Which file system of the user's computer a path lies on."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from coved.runtime import mountinfo

Kind = Literal["own", "qemu", "virtiofs"]
_MS_RDONLY, _MS_SYNCHRONOUS, _MS_REMOUNT = 1, 16, 32
_FLAGS = {
    "ro": _MS_RDONLY, "nosuid": 2, "nodev": 4, "noexec": 8, "sync": _MS_SYNCHRONOUS,
    "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21,
}  # fmt: skip


@dataclass(frozen=True)
class Mounted:
    """A mount of a folder of the user's computer."""

    point: str
    kind: Kind
    """``own``: of a server of Cove's agent, to which one may pretend."""
    flags: int
    """As mount(2) takes them."""

    def below(self, path: str) -> str:
        """A path within it, relative to its root; "" for the root."""
        return path[len(self.point) :].strip("/")

    def forget(self) -> None:
        """Let the kernel drop what it has cached of names and attributes and is not in use, as a remount does; what it looks up
        again it gets anew. Of virtiofs nothing is cached for longer than a second. Raises OSError.
        """
        if self.kind == "virtiofs":
            return
        libc = ctypes.CDLL(None, use_errno=True)
        fd = os.open(self.point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            libc.syncfs(fd)  # who looks a file up again sees what the server has
        finally:
            os.close(fd)
        if libc.mount(None, os.fsencode(self.point), None, ctypes.c_ulong(_MS_REMOUNT | self.flags), None) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), self.point)


def find(path: str, table: str = mountinfo.OWN) -> Mounted | None:
    """The innermost mount that ``path`` (absolute, without symlinks) lies on; None when that is none of the user's computer."""
    best: Mounted | None = None
    length = -1
    for one in mountinfo.entries(table):
        inside = path == one.point or path.startswith(one.point.rstrip("/") + "/")
        if not inside or len(one.point) < length:
            continue
        length = len(one.point)
        known = _kind(one.kind, one.of_all) if one.root == "/" else None
        flags = sum({_FLAGS.get(option, 0) for option in (*one.options, *one.of_all)})
        best = Mounted(one.point, known, flags) if known is not None else None
    return best


def _kind(kind: str, options: Collection[str]) -> Kind | None:
    if kind == "virtiofs":
        return "virtiofs"
    if kind == "9p":
        return "qemu" if "trans=virtio" in options else "own"
    return None
