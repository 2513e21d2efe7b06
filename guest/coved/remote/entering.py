"""Into a mount namespace whose root is the engine's system, with the host's files at /host. mount(2), pivot_root(2)."""

from __future__ import annotations

import os

from coved.remote.places import BYTE_CODE, HOST, RESOLVER
from coved.runtime import syscalls

_NEWNS = 0x00020000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _SLAVE = 1, 2, 4, 8, 32, 1 << 12, 1 << 14, 1 << 19

_DETACH = 2


class EnteringError(Exception):
    """The host does not let the engine make what it needs; the text says what."""


def enter(root: int, system: str) -> None:
    """This process, and what it starts, has ``system`` (a path of the host) as its root, and no mount of it is the host's.

    Args:
        root: descriptor of the host's root, which this process was taken out of by chroot(1).
    """
    # First: the mounts that a descriptor is open on stay those of the namespace before.
    os.fchdir(root)
    os.chroot(".")
    os.close(root)
    syscalls.unshare(_NEWNS)
    # What the host mounts and unmounts from now on, is so here; nothing goes the other way.
    syscalls.mount(None, "/", None, _REC | _SLAVE)
    resolver = os.path.realpath("/etc/resolv.conf")
    modules = os.path.isdir("/lib/modules")
    syscalls.mount(system, system, None, _BIND)
    try:
        syscalls.pivot_root(system, system + HOST)
    except OSError as error:
        raise EnteringError(
            f"its root file system cannot be left ({error.strerror}): the host runs from its initramfs"
        ) from error
    os.chdir("/")
    for place in ("proc", "dev", "sys"):
        syscalls.mount(f"{HOST}/{place}", f"/{place}", None, _BIND | _REC)
    if modules:
        bind(f"{HOST}/lib/modules", "/usr/lib/modules")
        seal("/usr/lib/modules")
    syscalls.mount("tmpfs", "/run", "tmpfs", _NOSUID | _NODEV, "mode=755")
    for place, mode in (("tmp", "1777"), ("var/tmp", "1777"), ("root", "700")):
        syscalls.mount("tmpfs", f"/{place}", "tmpfs", _NOSUID | _NODEV, f"mode={mode}")
    os.symlink(HOST + resolver, RESOLVER)
    bind(BYTE_CODE, BYTE_CODE)


def bind(source: str, target: str) -> None:
    os.makedirs(target, exist_ok=True)
    syscalls.mount(source, target, None, _BIND)


def seal(target: str = "/") -> None:
    """A mount is not written to any more: the system itself, but for byte code. Of a new mount the kernel passes over such a wish."""
    syscalls.mount(None, target, None, _BIND | _REMOUNT | _RDONLY)


def mount_processes() -> None:
    """For PID 1 of a namespace of processes, over the host's."""
    syscalls.mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)


def mount_cgroups() -> None:
    """For a namespace of cgroups, in place of the host's."""
    syscalls.umount2("/sys/fs/cgroup", _DETACH)
    syscalls.mount("cgroup2", "/sys/fs/cgroup", "cgroup2", _NOSUID | _NODEV | _NOEXEC)
