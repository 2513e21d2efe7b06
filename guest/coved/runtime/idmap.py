"""Id-mapped mounts: what a container in a user namespace sees of files that belong to root on disk.

mount_setattr(2), "ID-mapped mounts". Loaded only for containers that have a user namespace.
"""

import json
import os
import socket
from typing import TYPE_CHECKING

from coved.runtime import mounts, namespaces, syscalls

if TYPE_CHECKING:
    from coved.runtime.spec import IdMapping, Linux, Mount


class UserNamespace:
    """A user namespace that nobody lives in, for its mapping; to be closed."""

    def __init__(self, uids: "list[IdMapping]", gids: "list[IdMapping]") -> None:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        pid, pidfd = syscalls.clone3(syscalls.CLONE_NEWUSER)
        if pid == 0:
            os.close(write_end)
            os.read(read_end, 1)  # until the parent has what it wants, or has ended
            os._exit(0)
        try:
            namespaces.write_id_mappings(pid, {"uidMappings": uids, "gidMappings": gids})
            self.fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            for fd in (read_end, write_end, pidfd):
                os.close(fd)
            os.waitpid(pid, 0)

    def close(self) -> None:
        os.close(self.fd)

    def map(self, mount_fd: int) -> None:
        """Map a detached mount. Raises OSError: EINVAL when its file system cannot be mapped."""
        syscalls.mount_setattr(mount_fd, set_=syscalls.MOUNT_ATTR_IDMAP, userns_fd=self.fd)


def map_bind(mount: "Mount", mount_fd: int) -> None:
    """Map the top of a detached bind mount by the mappings in ``mount``."""
    space = UserNamespace(mount["uidMappings"], mount["gidMappings"])
    try:
        space.map(mount_fd)
    finally:
        space.close()


def open_overlay(mount: "Mount", options: mounts.Options) -> int:
    """A detached overlay of id-mapped layers: an overlay itself cannot be mapped.

    Layers are given to the kernel by path, and only mounts of the caller's mount namespace are taken (up to 6.14). So a
    child with a mount namespace of its own puts mapped clones over the layers' folders and hands the finished overlay back.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        message, fds = {}, []
        try:
            fds = [_build(mount, options)]
        except OSError as error:
            message = {"errno": error.errno, "text": error.strerror or str(error)}
        finally:
            socket.send_fds(theirs, [json.dumps(message).encode()], fds)
            os._exit(0)
    theirs.close()
    with ours:
        data, fds, _, _ = socket.recv_fds(ours, 65536, 1)
    os.waitpid(pid, 0)
    if not fds:
        message = json.loads(data or '{"errno": 5, "text": "the overlay could not be prepared"}')
        raise OSError(message["errno"], message["text"])
    os.set_inheritable(fds[0], False)
    return fds[0]


def _build(mount: "Mount", options: mounts.Options) -> int:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    values = [(key, value) for key, value in options.data if value is not None]
    lower = [folder for key, value in values if key == "lowerdir" for folder in mounts.split_lower(value)]
    own = [value for key, value in values if key in ("upperdir", "workdir")]
    uids, gids = mount["uidMappings"], mount["gidMappings"]
    space = UserNamespace(uids, gids)
    for folder in lower:
        _cover(folder, space)
    space.close()
    if own:
        # Upper and work must lie on one mount. The overlay makes things in work as the one who mounts it, root of the
        # machine, who must therefore be somebody there: the first id that no process of the container can have.
        space = UserNamespace([*uids, _maker(uids)], [*gids, _maker(gids)])
        _cover(os.path.commonpath(own), space)
        space.close()
    return mounts.open_overlay(options)


def _maker(mappings: "list[IdMapping]") -> "IdMapping":
    return {"containerID": max(one["containerID"] + one["size"] for one in mappings), "hostID": 0, "size": 1}


def _cover(folder: str, space: UserNamespace) -> None:
    clone = syscalls.open_tree(syscalls.AT_FDCWD, folder, syscalls.OPEN_TREE_CLONE)
    space.map(clone)
    target = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    syscalls.move_mount(clone, target)
    os.close(clone)
    os.close(target)


def host_root(linux: "Linux") -> tuple[int, int]:
    """Who root of the container is outside: ``(uid, gid)``."""
    ids = []
    for mappings in (linux.get("uidMappings", []), linux.get("gidMappings", [])):
        ids.append(next((one["hostID"] for one in mappings if one["containerID"] == 0), 0))
    return ids[0], ids[1]
