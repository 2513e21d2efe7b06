"""Which namespaces a container gets, and which it joins. namespaces(7), OCI config-linux.md "Namespaces"."""

import os
from typing import TYPE_CHECKING

from coved.runtime import syscalls

if TYPE_CHECKING:
    from coved.runtime.spec import Linux

_FLAGS = {
    "mount": syscalls.CLONE_NEWNS,
    "pid": syscalls.CLONE_NEWPID,
    "network": syscalls.CLONE_NEWNET,
    "ipc": syscalls.CLONE_NEWIPC,
    "uts": syscalls.CLONE_NEWUTS,
    "cgroup": syscalls.CLONE_NEWCGROUP,
    "user": syscalls.CLONE_NEWUSER,
}


class Namespaces:
    """``new``: clone flags of namespaces to make. ``joined``: clone flag and path of those to join."""

    def __init__(self, linux: "Linux") -> None:
        self.new = 0
        self.joined: list[tuple[int, str]] = []
        for namespace in linux.get("namespaces", []):
            kind = namespace["type"]
            flag = _FLAGS.get(kind)
            if flag is None:
                raise ValueError(f"namespace type '{kind}' is not supported")
            path = namespace.get("path")
            if not path:
                self.new |= flag
            elif kind in ("mount", "user"):
                # A mount namespace could be joined only without the rest of what a container is; and a process that
                # has joined a user namespace may not join the others.
                raise ValueError(f"joining a {kind} namespace by path is not supported")
            else:
                self.joined.append((flag, path))
        if not self.new & syscalls.CLONE_NEWNS:
            raise ValueError("a container needs its own mount namespace")

    @property
    def clone_flags(self) -> int:
        """All but the cgroup namespace: its root is its maker's cgroup, so init makes it itself."""
        return self.new & ~syscalls.CLONE_NEWCGROUP

    def all_flags(self) -> int:
        """Of everything that differs from the host's, for joining it with a pidfd."""
        flags = self.new
        for flag, _ in self.joined:
            flags |= flag
        return flags

    def join(self) -> None:
        """Join, for good; children are born in them. The shim itself does that: it needs none of its own."""
        for flag, path in self.joined:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise OSError(error.errno, f"namespace to join: {error.strerror}", path) from None
            try:
                syscalls.setns(fd, flag)
            finally:
                os.close(fd)

    def has(self, flag: int) -> bool:
        return bool(self.all_flags() & flag)


def write_id_mappings(pid: int, linux: "Linux") -> None:
    """Fill a new user namespace's maps from outside (user_namespaces(7))."""
    for name, mappings in (("uid_map", linux.get("uidMappings", [])), ("gid_map", linux.get("gidMappings", []))):
        if not mappings:
            raise ValueError(f"a user namespace needs {name.replace('_map', 'Mappings')}")
        text = "".join(f"{one['containerID']} {one['hostID']} {one['size']}\n" for one in mappings)
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
