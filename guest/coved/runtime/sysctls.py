"""Kernel parameters of a container: only those that belong to namespaces of its own. sysctl(8), sysctl.d(5)."""

import os
from typing import TYPE_CHECKING

from coved.runtime import syscalls
from coved.runtime.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Iterable

_IPC = {
    *("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax"),
    *("kernel.shmmni", "kernel.shm_rmid_forced"),
}


class SysctlError(Exception):
    """A parameter is not the container's to set; the words are runc's."""


def dotted(name: str) -> str:
    """``net/ipv4/conf/eth0.1/x`` as ``net.ipv4.conf.eth0/1.x``: whichever separator comes first is the separator."""
    first = min((name.find(sign) for sign in "./" if sign in name), default=-1)
    if first >= 0 and name[first] == "/":
        return name.translate(str.maketrans("./", "/."))
    return name


def check(names: "Iterable[str]", spaces: Namespaces) -> None:
    """Raises SysctlError for one that would change the machine, or that there cannot be."""
    for given in names:
        name = dotted(given)
        if not all(part not in ("", ".", "..") for part in name.split(".")) or "//" in name or "\0" in name:
            raise SysctlError(f'sysctl "{given}" is not in a separate kernel namespace')
        if name in _IPC or name.startswith("fs.mqueue."):
            if not spaces.has(syscalls.CLONE_NEWIPC):
                raise SysctlError(f'sysctl "{given}" is not allowed in the hosts ipc namespace')
        elif name.startswith("net."):
            if not spaces.has(syscalls.CLONE_NEWNET):
                raise SysctlError(f'sysctl "{given}" not allowed in host network namespace')
        elif name == "kernel.hostname" and spaces.has(syscalls.CLONE_NEWUTS):
            raise SysctlError(f'sysctl "{given}" is not allowed as it conflicts with the OCI "hostname" field')
        elif name != "kernel.domainname" or not spaces.has(syscalls.CLONE_NEWUTS):
            raise SysctlError(f'sysctl "{given}" is not in a separate kernel namespace')


def write(name: str, value: str) -> None:
    """Through the machine's procfs, before the root changes: it shows the writer's own namespaces. Raises OSError.

    After :func:`check`, in the new namespaces.
    """
    name = dotted(name)
    if name == "kernel.domainname":
        syscalls.setdomainname(value)
        return
    path = "/proc/sys/" + name.translate(str.maketrans("./", "/."))
    what = "open"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            what = "write"
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise OSError(error.errno, f"{what} {path}: {syscalls.describe(error)}") from None
