"""A part of a file system as a mount of its own: a folder or a file of an overlay, or a file that is in memory only."""

import base64
import os
from typing import TYPE_CHECKING

from coved.runtime import paths, syscalls

if TYPE_CHECKING:
    from coved.runtime.spec import Mount

_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PROTECTED = (
    syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_NOEXEC
)


def take(fd: int, mount: "Mount") -> int:
    """The mount of what is at ``within`` in the detached mount ``fd``. Links lead nowhere out of it.

    In the container's mount namespace, as long as the machine's files can be seen there: only what is attached somewhere can
    be cloned (open_tree(2)), and it is attached to ``place``, which goes with all that is the machine's. Raises OSError.
    """
    if "content" in mount:
        _write(fd, mount)
    place = os.open(mount["place"], os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        syscalls.move_mount(fd, place)
    finally:
        os.close(place)
    part = paths.open_in_root(fd, mount["within"])
    try:
        made = syscalls.open_tree(part, "", syscalls.OPEN_TREE_CLONE | syscalls.AT_EMPTY_PATH)
    finally:
        os.close(part)
    try:
        if "content" in mount:
            runs = mount["content"]["mode"] & 0o111
            syscalls.mount_setattr(made, set_=_PROTECTED & ~syscalls.MOUNT_ATTR_NOEXEC if runs else _PROTECTED)
    except BaseException:
        os.close(made)
        raise
    return made


def _write(root: int, mount: "Mount") -> None:
    content = mount["content"]
    file = os.open(mount["within"].lstrip("/"), _FILE, 0o600, dir_fd=root)
    with open(file, "wb") as stream:
        stream.write(base64.b64decode(content["data"]))
        os.fchown(file, content["uid"], content["gid"])
        os.fchmod(file, content["mode"])
