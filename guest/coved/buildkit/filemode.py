"""Go's os.FileMode, in which BuildKit's messages have the modes of files, and the system's. Both sides import this."""

from __future__ import annotations

import stat

_DIRECTORY = 1 << 31
_LINK = 1 << 27
_DEVICE = 1 << 26
_FIFO = 1 << 25
_SOCKET = 1 << 24
_CHARACTER = 1 << 21
_IRREGULAR = 1 << 19
_SPECIAL = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))
_KINDS = {
    0: stat.S_IFREG,
    _DIRECTORY: stat.S_IFDIR,
    _LINK: stat.S_IFLNK,
    _DEVICE: stat.S_IFBLK,
    _DEVICE | _CHARACTER: stat.S_IFCHR,
    _FIFO: stat.S_IFIFO,
    _SOCKET: stat.S_IFSOCK,
}
KINDS = _DIRECTORY | _LINK | _DEVICE | _FIFO | _SOCKET | _CHARACTER | _IRREGULAR
"""Bits of which a regular file has none."""


def from_go(mode: int) -> int:
    """A stat(2) mode. Raises ValueError for a kind of file that there is none of."""
    kind = _KINDS.get(mode & KINDS)
    if kind is None:
        raise ValueError(f"unknown kind of file: mode {mode:o}")
    return kind | mode & 0o777 | sum(bit for go, bit in _SPECIAL if mode & go)


def to_go(mode: int) -> int:
    """Of a stat(2) mode."""
    kind = next((go for go, kernel in _KINDS.items() if kernel == stat.S_IFMT(mode)), _IRREGULAR)
    return kind | mode & 0o777 | sum(go for go, bit in _SPECIAL if mode & bit)
