"""Who a process runs as: names looked up in the container's own passwd(5) and group(5), which are hostile input."""

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from coved.runtime.spec import User

_MAX_FILE = 4 * 1024 * 1024
_MAX_ID = 2**31 - 1


class UserError(Exception):
    """There is no such user or group; the text is docker's."""


class Identity(NamedTuple):
    uid: int
    gid: int
    groups: list[int]
    home: str


def _lines(path: str) -> list[list[str]]:
    """The file's records; none when it is missing or no regular file (a FIFO must not hold up the set-up)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return []
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return []
        text = os.read(fd, _MAX_FILE).decode("utf-8", "surrogateescape")
    finally:
        os.close(fd)
    return [line.split(":") for line in text.splitlines() if line and not line.startswith("#")]


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    number = int(text)
    if number > _MAX_ID:
        raise UserError("uids and gids must be in range 0-2147483647")
    return number


def _find_group(name: str, groups: list[list[str]]) -> int:
    for fields in groups:
        if len(fields) > 2 and fields[0] == name and (number := _number(fields[2])) is not None:
            return number
    number = _number(name)
    if number is None:
        raise UserError(f"unable to find group {name}: no matching entries in group file")
    return number


def _find_extra_group(name: str, groups: list[list[str]]) -> int:
    if name.startswith("-") and name[1:].isdigit():
        raise UserError("uids and gids must be in range 0-2147483647")
    try:
        return _find_group(name, groups)
    except UserError as error:
        raise UserError(str(error).replace("unable to find group", "Unable to find group")) from None


def resolve(user: "User", passwd: str = "/etc/passwd", group: str = "/etc/group") -> Identity:
    """In the container's root. Raises UserError."""
    uid, gid = user.get("uid", 0), user.get("gid", 0)
    groups = list(user.get("additionalGids", []))
    users = _lines(passwd)
    group_lines: list[list[str]] | None = None
    name, _, group_name = user.get("username", "").partition(":")
    if name or group_name:
        uid, gid, login = _find_user(name, users)
        group_lines = _lines(group)
        if group_name:
            gid = _find_group(group_name, group_lines)
        elif login:
            members = (line for line in group_lines if len(line) > 3 and login in line[3].split(","))
            groups += [number for line in members if (number := _number(line[2])) is not None]
    for extra in user.get("extraGroups", []):
        group_lines = _lines(group) if group_lines is None else group_lines
        groups.append(_find_extra_group(extra, group_lines))
    groups.insert(0, gid)  # without it a process could lose, by setgid(2), what is denied to its group
    home = next((line[5] for line in users if len(line) > 5 and line[2] == str(uid)), "") or "/"
    return Identity(uid, gid, list(dict.fromkeys(groups)), home)


def _find_user(name: str, users: list[list[str]]) -> tuple[int, int, str]:
    """``(uid, gid, login name)``; a number need not be in the file."""
    number = _number(name) if name else 0
    for fields in users:
        if len(fields) > 3 and (fields[0] == name or fields[2] == str(number)):
            uid, gid = _number(fields[2]), _number(fields[3])
            if uid is not None and gid is not None:
                return uid, gid, fields[0]
    if number is None:
        raise UserError(f"unable to find user {name}: no matching entries in passwd file")
    return number, 0, ""
