"""Options of ``--tmpfs``: those that Docker knows, what comes last wins. tmpfs(5)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from coved.errors import EngineError, InvalidParameter

_DEFAULTS = ("noexec", "nosuid", "nodev")
_PAIRS = (
    ("ro", "rw"), ("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec"), ("sync", "async"), ("mand", "nomand"),
    ("diratime", "nodiratime"), ("atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime"),
    ("private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"),
)  # fmt: skip
_GROUPS = {word: number for number, words in enumerate(_PAIRS) for word in words}
_ALONE = ("defaults", "dirsync")
_VALUES = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol")


def check(paths: Iterable[str]) -> None:
    """Where a tmpfs may not be. Raises InvalidParameter."""
    for path in paths:
        if not path.startswith("/"):
            raise InvalidParameter(f"invalid mount path: '{path}' mount path must be absolute")
        if posixpath.normpath(path).strip("/") == "":
            raise InvalidParameter("invalid specification: destination can't be '/'")


def options(text: str) -> list[str]:
    """Mount options of a tmpfs, Docker's own first. Raises EngineError, which fails a start as with dockerd."""
    chosen: dict[int | str, str] = {_GROUPS[word]: word for word in _DEFAULTS}
    for word in filter(None, text.split(",")):
        name, equals, _ = word.partition("=")
        if not equals and word in _GROUPS:
            chosen[_GROUPS[word]] = word
        elif (not equals and word in _ALONE) or (equals and name in _VALUES):
            chosen[name] = word
        else:
            raise EngineError(f'invalid tmpfs option "{name}"')
    return list(chosen.values())
