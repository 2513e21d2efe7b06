"""Whom files are given to: ``--chown``, by BuildKit's rules."""

from __future__ import annotations

import os
import stat

from coved.build.errors import BuildError
from coved.runtime.paths import open_in_root

_BYTES_MAX = 10 << 20
_ID_MAX = 2**31 - 1


def find_known(text: str, root: int) -> tuple[int, int]:
    """The same by the rules of the builder of before BuildKit: who is looked up must be there, and a user alone is the group's
    name, too. Raises BuildError in its words."""
    names = text.split(":")
    if len(names) > 2:
        raise BuildError(f"unable to convert uid/gid chown string to host mapping: invalid chown string format: {text}")
    ids = []
    places = (("uid", "user", "/etc/passwd", names[0]), ("gid", "group", "/etc/group", names[-1]))
    for id, kind, path, name in places:
        number = int(name) if name.isascii() and name.isdigit() and int(name) <= _ID_MAX else None
        if number is None:
            fields = _find(root, path, name, empty=False)
            if not fields:
                raise BuildError(
                    f"unable to convert uid/gid chown string to host mapping: can't find {id} for {kind} {name}: "
                    f"no such {kind}: {name}"
                )
            number = _field(fields, 2)
        ids.append(number)
    return ids[0], ids[1]


def find(text: str, root: int, *, empty: bool) -> tuple[int, int]:
    """uid and gid of ``user[:group]``.

    A user's number alone is the group's too; a name's group is in passwd(5), and who is not there is root. Names cannot be
    looked up where there is no file system yet (``empty``).

    Args:
        root: descriptor of the file system that has ``/etc/passwd`` and ``/etc/group``, which is not trusted.

    Raises BuildError.
    """
    user, colon, group = text.partition(":")
    uid = gid = 0
    number = _number(user)
    if number is not None:
        uid = gid = number
    elif fields := _find(root, "/etc/passwd", user, empty=empty):
        uid, gid = _field(fields, 2), _field(fields, 3)
    if colon:
        number = _number(group)
        if number is not None:
            gid = number
        elif fields := _find(root, "/etc/group", group, empty=empty):
            gid = _field(fields, 2)
    return uid, gid


def _number(text: str) -> int | None:
    if text == "root":
        return 0
    if text.isascii() and text.isdigit() and int(text) <= _ID_MAX:
        return int(text)
    return None


def _find(root: int, path: str, name: str, *, empty: bool) -> list[str]:
    """The fields of the first record of that name; none when there is no such file or record."""
    if empty:
        raise BuildError("invalid user index: -1")
    try:
        # A FIFO must not hold up the build.
        fd = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return []
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BuildError(f"{path} is not a regular file")
        data = file.read(_BYTES_MAX + 1)
    if len(data) > _BYTES_MAX:
        raise BuildError(f'"{path}" exceeds {_BYTES_MAX} bytes')
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.strip().split(":")
        if fields[0] == name and name:
            return fields
    return []


def _field(fields: list[str], index: int) -> int:
    """What is no number is 0, as BuildKit has it."""
    text = fields[index] if index < len(fields) else ""
    return int(text) if text.isascii() and text.isdigit() and int(text) <= _ID_MAX else 0
