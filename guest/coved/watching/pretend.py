"""Changes done again on a mount of a server of the agent's, which knows the one who does them and only says that it is done.

Linux emits an event of inotify when a file operation has succeeded in its own kernel. So each change is made here as it was on the
user's computer, by a thread with a user id of its own, the pretender's. v9fs attaches to the server once for each user id, and the
server answers the pretender's requests without touching a file. It is told before what the next one is about: as the target of a
symlink, which it then refuses to make with ECANCELED. What is wrong in the kernel's caches is made right by the operation itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import stat

from coved.link.protocol import Change
from coved.watching.place import Place

PRETENDER = 0xC07E0001
"""The server's ``cove.share.ninep`` knows it, too. No container is started with it: docker's user ids end at 2147483647."""
ARMING = ".cove-pretend"
_MODES = {"file": stat.S_IFREG | 0o644, "fifo": stat.S_IFIFO | 0o644, "socket": stat.S_IFSOCK | 0o644}
_CAPABILITIES_V3 = 0x20080522
_ATTEMPTS = 3
"""For a file that the user's computer writes to meanwhile; when it has written, it tells so again."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def become() -> None:
    """Make the calling thread, and only it, the pretender (setfsuid(2)); it keeps root's capabilities. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.setfsuid(ctypes.c_uint32(PRETENDER))  # takes those of file systems from the effective set
    header, sets = _Header(_CAPABILITIES_V3, 0), (_Sets * 2)()
    if libc.capget(ctypes.byref(header), sets) < 0:
        raise OSError(ctypes.get_errno(), "capget")
    for one in sets:
        one.effective = one.permitted
    if libc.capset(ctypes.byref(header), sets) < 0:
        raise OSError(ctypes.get_errno(), "capset")


class Pretender:
    """Args: place: the mount; below: the watched folder in it, "" for all; token: the server's."""

    def __init__(self, place: Place, below: str, token: str) -> None:
        self._place = place
        self._below = below
        self._token = token
        self._armed = False

    def do(self, change: Change) -> None:
        """Raises OSError."""
        path = self._name(change.path)
        match change.kind:
            case "create":
                self._create(path, change.what, change.real)
            case "modify" | "close":
                self._write(path, contents=change.kind == "modify")
            case "attrib":
                self._attrib(path)
            case "delete":
                self._delete(path, change.what)
            case "move":
                self._move(path, self._name(change.to), change.what, change.real)

    def done(self) -> None:
        """Nothing more is pretended now."""
        if self._armed:
            self._arm({"kind": "none"})
            self._armed = False

    def _name(self, path: str) -> str:
        """Relative to the mount's root."""
        return "/".join(part for part in (self._below, path) if part)

    def _real(self, real: str | None) -> str | None:
        return None if real is None else self._name(real)

    def _arm(self, order: dict[str, object]) -> None:
        try:
            os.symlink(json.dumps({"token": self._token, **order}), ARMING, dir_fd=self._place.root)
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
            self._armed = True
            return
        raise OSError(errno.EPROTO, "the server of the folder knows no pretender")

    def _create(self, path: str, what: str, real: str | None) -> None:
        known = "fifo" if what == "socket" else what  # they differ in nothing that the server makes up
        order: dict[str, object] = {"kind": "create", "path": path, "real": self._real(real), "what": known}
        self._arm(order)  # first, for the way there may have gone, too
        with self._place.parent(path) as (parent, name):
            try:
                _make(parent, name, what)
            except FileExistsError:
                # Somebody looked it up before we came. It is marked as stale, without an event, so that its look-up fails now.
                self._arm({"kind": "none"})
                os.chown(name, -1, -1, dir_fd=parent, follow_symlinks=False)
                self._arm(order)
                _make(parent, name, what)

    def _write(self, path: str, *, contents: bool) -> None:
        if contents:
            # By its path: what containers have to write the kernel would write by any descriptor that is open for that.
            with self._place.itself(path) as at:
                size = _take_size(at)
                with self._place.parent(path) as (parent, name):
                    _forget_pages(parent, name, size)
                _take_size(at)  # who read too early hears of it again
            with self._place.itself(path):  # times are fetched anew
                pass
        with self._place.parent(path) as (parent, name):
            os.close(os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent))

    def _attrib(self, path: str) -> None:
        with self._place.itself(path) as at:
            os.utime(at, ns=(0, 0))  # both times mean IN_ATTRIB; which, nobody sees
        with self._place.itself(path):  # by which they are fetched anew
            pass

    def _delete(self, path: str, what: str) -> None:
        self._arm({"kind": "delete", "path": path, "what": what})
        with self._place.parent(path) as (parent, name):
            if what == "dir":
                os.rmdir(name, dir_fd=parent)
            else:
                os.unlink(name, dir_fd=parent)

    def _move(self, path: str, to: str, what: str, real: str | None) -> None:
        try:
            self._rename(path, to, what, real)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            # A container writes to it by its new name already, where its kernel knows better. By the old one it is no more.
            with contextlib.suppress(FileNotFoundError):
                self._delete(path, what)

    def _rename(self, path: str, to: str, what: str, real: str | None) -> None:
        """Pretends that the target exists, for that is so if the kernel has it cached, and where not it does no harm."""
        self._arm({"kind": "move", "path": path, "to": to, "over": True, "what": what, "real": self._real(real)})
        with self._place.parent(path) as (parent, name), self._place.parent(to) as (new_parent, new_name):
            os.rename(name, new_name, src_dir_fd=parent, dst_dir_fd=new_parent)
            self._arm({"kind": "none"})
            try:
                os.stat(name, dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                return
        # Somebody had looked up both names meanwhile: they were one file, and rename(2) left it so.
        with contextlib.suppress(FileNotFoundError):
            self._delete(path, what)
        self._create(to, what, real)


def _take_size(at: str) -> int:
    """Set the size that the file has on the user's computer, and give it. Raises OSError: EBUSY when a container writes to the file."""
    for attempts_left in reversed(range(_ATTEMPTS)):
        size = os.statvfs(at).f_blocks  # as the server tells it the pretender
        try:
            os.truncate(at, size)
        except OSError as error:
            if error.errno != errno.ESTALE or not attempts_left:
                raise
        else:
            return size
    raise AssertionError("unreachable")


def _forget_pages(parent: int, name: str, size: int) -> None:
    """Drop what is cached of a file's contents. What is beyond the size that the file had the kernel takes for zeros, until a page
    of the end that it has now was there and is dropped (``zero_point`` of Linux's netfs). So that is read, as root, for the pretender
    may not read.
    """
    ctypes.CDLL(None).setfsuid(ctypes.c_uint32(0))
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        try:
            if size:
                os.pread(fd, 1, size - 1)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
    finally:
        become()


def _make(parent: int, name: str, what: str) -> None:
    match what:
        case "dir":
            os.mkdir(name, dir_fd=parent)
        case "symlink":
            os.symlink("?", name, dir_fd=parent)
        case _:
            os.mknod(name, _MODES[what], dir_fd=parent)
