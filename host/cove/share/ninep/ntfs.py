"""What Windows calls things, as far as containers see it: names of files, and links as they are kept (reparse points; [MS-FSCC] 2.1.2).

Nothing here touches a file.
"""

from __future__ import annotations

import errno
import re
import stat
import struct

from cove.share.ninep import wire
from cove.share.watching.below import SURROGATE

SYMLINK, JUNCTION = 0xA000000C, 0xA0000003
LX_SYMLINK, LX_FIFO, AF_UNIX = 0xA000001D, 0x80000024, 0x80000023
"""As WSL makes links, pipes and sockets. Programs of Windows follow no such link."""
_CLOUD, _CLOUD_KINDS = 0x9000001A, 0xF000
"""A file that OneDrive and its like keep, in so many kinds; it is read as any other."""
MAX_DATA = 16384
_LX_VERSION = 2

_FORBIDDEN = re.compile(r'[\x00-\x1f<>:"/\\|?*]|[. ]\Z')
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\.|\Z)", re.IGNORECASE)
_MAY_BE_SHORT = re.compile(r"(?=.{3,12}\Z)[^.]{1,7}~[^.]{1,6}(?:\.[^.]{0,3})?", re.DOTALL)


def text(name: bytes) -> str:
    """A name as Windows has it. Raises `ValueError` for what is none there, or would be another's: what has to do with streams, devices
    or paths, and what its programs could not open."""
    found = name.decode("utf-8", "surrogatepass")
    units = found.encode("utf-16-le", "surrogatepass")
    if _FORBIDDEN.search(found) or _DEVICE.match(found) or len(units) > 510:
        raise ValueError("no name of Windows")
    if units.decode("utf-16-le", "surrogatepass") != found:
        raise ValueError("two halves of a letter, which would be a second name of the file that has it")
    return found


def shown(name: str) -> bytes | None:
    """A name of Windows' as containers see it; None for one that they do not."""
    raw = name.encode("utf-8", "surrogatepass")
    try:
        return raw if len(raw) <= wire.MAX_NAME and text(raw) == name else None
    except ValueError:
        return None


def may_be_short(name: str) -> bool:
    """Whether it may be the second name, of eight letters and three, that Windows gives to a file."""
    return _MAY_BE_SHORT.fullmatch(name) is not None


def kind(tag: int, *, directory: bool) -> int:
    """What a reparse point is (`stat.S_IFMT`)."""
    if tag & SURROGATE:
        return stat.S_IFLNK
    if tag == LX_FIFO:
        return stat.S_IFIFO
    if tag == AF_UNIX:
        return stat.S_IFSOCK
    return stat.S_IFDIR if directory else stat.S_IFREG


def is_read_as_it_is(tag: int) -> bool:
    """Whether the contents of a file that is a reparse point are what they seem."""
    return tag & ~_CLOUD_KINDS == _CLOUD


def target(data: bytes) -> bytes:
    """The text of a link, of its reparse point's data: a path of Windows as containers name it. Raises `OSError`."""
    try:
        tag, length = struct.unpack_from("<IH", data)
        body = data[8 : 8 + length]
        if len(body) < length:
            raise ValueError
        if tag == LX_SYMLINK:
            (version,) = struct.unpack_from("<I", body)
            if version != _LX_VERSION:
                raise ValueError
            found = body[4:]
        elif tag in (SYMLINK, JUNCTION):
            begin, size = struct.unpack_from("<HH", body)
            names = body[12 if tag == SYMLINK else 8 :]
            if begin + size > len(names):
                raise ValueError
            found = _path(names[begin : begin + size].decode("utf-16-le", "surrogatepass"))
        else:
            raise ValueError
        if not found or b"\0" in found or len(found) > wire.MAX_TARGET:
            raise ValueError
    except (ValueError, struct.error):
        raise OSError(errno.EINVAL, "a link of another kind") from None
    return found


def _path(path: str) -> bytes:
    path = path.removeprefix("\\??\\").replace("\\", "/")
    if (drive := re.match(r"([A-Za-z]):(?=/|\Z)", path)) is not None:
        path = f"/{drive[1].lower()}{path[2:]}"
    elif path.upper().startswith("UNC/"):
        path = f"//{path[4:]}"
    return path.encode("utf-8", "surrogatepass")


def link_data(text: bytes) -> bytes:
    """The reparse point of a link, as WSL makes it."""
    return _data(LX_SYMLINK, struct.pack("<I", _LX_VERSION) + text)


def special_data(kind: int) -> bytes:
    """Of a pipe or socket. Raises `OSError` for devices."""
    tag = {stat.S_IFIFO: LX_FIFO, stat.S_IFSOCK: AF_UNIX}.get(kind)
    if tag is None:
        raise PermissionError(errno.EPERM, "no devices")
    return _data(tag, b"")


def _data(tag: int, body: bytes) -> bytes:
    if len(body) > MAX_DATA - 8:
        raise OSError(errno.ENAMETOOLONG, "too long a target")
    return struct.pack("<IHH", tag, len(body), 0) + body
