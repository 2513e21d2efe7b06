"""Terminals of container processes, made from the container's own devpts. pty(7), ioctl_tty(2)."""

import fcntl
import os
import struct
import termios

from coved.runtime import syscalls

_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441


def open_terminal(root_fd: int) -> tuple[int, int]:
    """``(master, slave)``. The image may have put anything at this path: it must lie on a devpts, reached by no link.

    The slave is had from the master itself, never by its name.
    """
    resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS
    master = syscalls.openat2(root_fd, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY, resolve)
    try:
        if not syscalls.is_devpts(master):
            raise OSError(22, "no terminal device of this container", "/dev/pts/ptmx")
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    except BaseException:
        os.close(master)
        raise
    os.set_inheritable(slave, False)
    return master, slave


def set_size(fd: int, height: int, width: int) -> None:
    """In character cells; the kernel tells the foreground processes (SIGWINCH)."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", height & 0xFFFF, width & 0xFFFF, 0, 0))


def become_controlling(slave: int) -> None:
    """Of the calling process's session, which it must lead."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
