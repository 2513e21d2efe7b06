"""Network namespaces that are held by a descriptor or a bind mount, not by a process (namespaces(7))."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from coved.networks.rtnetlink import Netlink

_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MNT_DETACH = 2
_OWN = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


@dataclass
class Namespace:
    """A namespace that is being set up: its file descriptor, and a netlink socket inside it."""

    fd: int
    netlink: Netlink
    ipv6_switch: int = -1
    """Descriptor of the parameter by which new devices have no IPv6, which they have not for now; -1: they have it."""

    def close(self) -> None:
        self.netlink.close()
        os.close(self.fd)
        if self.ipv6_switch >= 0:
            os.close(self.ipv6_switch)
            self.ipv6_switch = -1


@contextlib.contextmanager
def _back_to_own() -> Iterator[None]:
    """Runs the block, which may change the calling thread's namespace, and puts the thread back."""
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        try:
            _check(_libc.setns(own, _CLONE_NEWNET), "setns")
        finally:
            os.close(own)


def create(*, for_devices: bool = True) -> Namespace:
    """A new namespace, held by its descriptor alone. Only the calling thread visits it. Raises OSError.

    Args:
        for_devices: devices will be made in it, without IPv6 until ``settle``, which MUST be called once they are there.
    """
    with _back_to_own():
        _check(_libc.unshare(_CLONE_NEWNET), "unshare a network namespace")
        switch = _disable_ipv6() if for_devices else -1
        _write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
        _write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")
        return _here(switch)


def adopt(existing: str) -> Namespace:
    """The namespace at the path ``existing``; its parameters are its maker's business, but for IPv6's, as ``create`` has them.

    Raises OSError.
    """
    other = os.open(existing, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _back_to_own():
            _check(_libc.setns(other, _CLONE_NEWNET), f"enter {existing}")
            return _here(_disable_ipv6())
    finally:
        os.close(other)


def mount(namespace: Namespace, path: Path) -> None:
    """Mounts it on ``path``, which must not exist: it is there for as long as that is. Raises OSError; then nothing is left."""
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    try:
        source = f"/proc/self/fd/{namespace.fd}".encode()
        _check(_libc.mount(source, os.fsencode(path), None, _MS_BIND, None), f"mount {path}")
    except OSError:
        path.unlink()
        raise


def _here(ipv6_switch: int) -> Namespace:
    """That of the calling thread."""
    fd = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return Namespace(fd, Netlink(), ipv6_switch)
    except OSError:
        os.close(fd)
        raise


def _disable_ipv6() -> int:
    """Of devices that are made from now on; gives the descriptor of the parameter, or -1."""
    try:
        switch = os.open("/proc/sys/net/ipv6/conf/default/disable_ipv6", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # a kernel without IPv6
        return -1
    os.pwrite(switch, b"1", 0)
    return switch


def settle(namespace: Namespace, ipv6: Mapping[str, bool], parameters: Iterable[tuple[str, str]] = ()) -> None:
    """Says which devices of a namespace, all of them new and down, have IPv6; those that others make in it have what the
    kernel gives them.

    Args:
        ipv6: by the device's name.
        parameters: further ones: paths below /proc/sys, and values.

    Raises:
        OSError: there is no such parameter, or it does not take the value.
    """
    new = namespace.ipv6_switch >= 0
    # Of a namespace in use nobody knows what its devices begin with: an older engine made it, or the container had its way.
    values = [(f"net/ipv6/conf/{name}/disable_ipv6", "10"[on]) for name, on in ipv6.items() if on or not new]
    if values or parameters:
        with _back_to_own():
            _check(_libc.setns(namespace.fd, _CLONE_NEWNET), "enter a network namespace")
            with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                for path, value in values:
                    _write(f"/proc/sys/{path}", value)
            for path, value in parameters:
                _write(f"/proc/sys/{path}", value)
    if new:
        os.pwrite(namespace.ipv6_switch, b"0", 0)


def enter(path: Path) -> Namespace:
    """A file descriptor and a netlink socket of the namespace that is mounted on ``path``."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _back_to_own():
            _check(_libc.setns(fd, _CLONE_NEWNET), f"enter {path}")
            return Namespace(fd, Netlink())
    except OSError:
        os.close(fd)
        raise


@contextlib.contextmanager
def visiting(path: Path) -> Iterator[None]:
    """Runs the block, which must be short and wait for nothing, with the calling thread in the namespace on ``path``.

    Raises OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _back_to_own():
            _check(_libc.setns(fd, _CLONE_NEWNET), f"enter {path}")
            yield
    finally:
        os.close(fd)


def remove(path: Path) -> None:
    """Unmounts and removes ``path``; the namespace ends with its last process. What is not there is no error."""
    encoded = os.fsencode(path)
    while _libc.umount2(encoded, _MNT_DETACH) == 0:
        pass  # one mount lies on another if an earlier engine died in between
    if (number := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOENT):
        raise OSError(number, f"unmount {path}: {os.strerror(number)}")
    path.unlink(missing_ok=True)


def is_mounted(path: Path) -> bool:
    """Whether ``path`` is a mounted namespace, not the empty file that one was to be mounted on."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
