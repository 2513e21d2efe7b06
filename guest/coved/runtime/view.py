"""A container's root as descriptors that any thread of the engine can work with.

What a path in a container means is decided by mounts and symbolic links that the container may change at any moment. So no
path is ever joined to another on the host: everything is opened from the descriptor of the root with openat2(2) and
``RESOLVE_IN_ROOT``, in a mount namespace of the view's own. docs/decisions/0017 tells why.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from coved.runtime import mountinfo, mounts, syscalls
from coved.runtime.ids import Ids
from coved.runtime.spec import Mount

T = TypeVar("T")

_UMOUNT_NOFOLLOW = 8
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
# What the kernel makes up, part of it without end; dockerd does not show it either.
_KERNELS_OWN = ("/proc", "/sys", "/dev")


class View:
    """``root`` is an O_PATH descriptor of the container's root, ``place`` its path in the view's namespace; ``ids`` of its files."""

    def __init__(self, root: int, namespace: int, place: str, ids: Ids) -> None:
        self.root = root
        self.ids = ids
        self._place = place.rstrip("/")
        self._namespace = namespace  # while it is open the mounts stay

    def close(self) -> None:
        os.close(self.root)
        os.close(self._namespace)

    def again(self, proc: int) -> View:
        """The same in a copy of its namespace; ``proc`` is the host's /proc. For a thread that ends with it."""
        syscalls.unshare(syscalls.CLONE_FS)
        syscalls.setns(self._namespace, syscalls.CLONE_NEWNS)
        _own_mounts(syscalls.MS_SLAVE)  # what is private in the first stays so
        return _view(proc, self._place, self.ids)

    def path_of(self, fd: int) -> str:
        """Where in the container the file of ``fd`` lies."""
        return os.readlink(f"/proc/self/fd/{fd}").removeprefix(self._place) or "/"


def of_process(pid: int, ids: Ids, *, upper: Path | None, alone: bool = False) -> View:
    """The root of a running container, whose init is ``pid``; ``alone`` without what is mounted in it.

    ``upper`` is the upper directory of the overlay that must be on its root: another process may have got its number.
    Raises ProcessLookupError when there is no such process, OSError.
    """
    root_uid, root_gid = ids.outside(0, 0)
    empty = f"mode=755,uid={root_uid},gid={root_gid},size=0"

    def enter() -> View:
        # From the host's /proc: the container's own may be anything.
        proc = os.open("/proc", _DIRECTORY)
        try:
            theirs = os.pidfd_open(pid)
            try:
                found = upper is None or _has_upper(proc, pid, upper)
                # Alive after that was read, so it was this process's and no successor's.
                signal.pidfd_send_signal(theirs, 0)
                if not found:
                    raise ProcessLookupError(errno.ESRCH, "its process is no longer the container's")
                syscalls.unshare(syscalls.CLONE_FS)
                syscalls.setns(theirs, syscalls.CLONE_NEWNS)
            finally:
                os.close(theirs)
            if alone:
                root = syscalls.open_tree(syscalls.AT_FDCWD, "/", syscalls.OPEN_TREE_CLONE)
                return _harmless(View(root, _namespace(proc), "/", ids))
            _own_mounts(syscalls.MS_PRIVATE)  # what the container mounts meanwhile, and where, is not to be seen
            for mounted in mountinfo.entries("thread-self/mountinfo", proc):
                if mounted.point in _KERNELS_OWN:
                    _hide(mounted.point, empty)
            return _harmless(_view(proc, "/", ids))
        finally:
            os.close(proc)

    return _in_a_thread(enter)


def of_layers(overlay: Mount, place: Path) -> View:
    """The root of a container that does not run, mounted on the directory ``place`` in the view's namespace alone.

    Raises OSError, MountError.
    """
    prepared = mounts.prepare(overlay)
    os.makedirs(place, 0o700, exist_ok=True)

    def enter() -> View:
        proc = os.open("/proc", _DIRECTORY)
        try:
            _own_mounts(syscalls.MS_SLAVE)  # what the engine unmounts meanwhile is not to be held
            target = os.open(place, _DIRECTORY)
            syscalls.move_mount(prepared.fd, target)
            os.close(target)
            return _harmless(_view(proc, str(place), Ids()))
        finally:
            os.close(proc)

    try:
        return _in_a_thread(enter)
    finally:
        os.close(prepared.fd)


def with_mounts(base: View, others: Sequence[Mount]) -> View:
    """The root of ``base``, the very mount of it, with ``others`` mounted in it for the new view alone.

    Raises OSError, MountError.
    """
    prepared = [mounts.prepare(mount) for mount in others]

    def enter() -> View:
        proc = os.open("/proc", _DIRECTORY)
        try:
            view = base.again(proc)
            try:
                while prepared:
                    mounts.attach(view.root, prepared.pop(0))  # which closes it
            except BaseException:
                view.close()
                raise
            return _harmless(view)
        finally:
            os.close(proc)

    try:
        return _in_a_thread(enter)
    finally:
        for one in prepared:
            os.close(one.fd)


@contextlib.contextmanager
def of_image(layers: Sequence[Path]) -> Iterator[int]:
    """A descriptor of the root that the layers (top first) make together. Raises OSError."""
    if len(layers) == 1:
        root = os.open(layers[0], _DIRECTORY)
    else:
        directories = mounts.join_lower(layers)
        root = mounts.open_overlay(mounts.parse_options([f"lowerdir={directories}", "ro", "nodev"]))
    try:
        yield root
    finally:
        os.close(root)


def _own_mounts(propagation: int) -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | propagation)


def _hide(point: str, empty: str) -> None:
    try:
        syscalls.umount2(point, syscalls.MNT_DETACH | _UMOUNT_NOFOLLOW)
    except FileNotFoundError:
        return  # its folder has just been moved or removed
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Mounts of another user namespace hold together in a copy (mount_namespaces(7)).
        syscalls.mount("tmpfs", point, "tmpfs", syscalls.MS_RDONLY, empty)


def _view(proc: int, place: str, ids: Ids) -> View:
    return View(os.open(place, _DIRECTORY), _namespace(proc), place, ids)


def _namespace(proc: int) -> int:
    return os.open("thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)


def _harmless(view: View) -> View:
    """No device node in a view can be opened, whatever a container puts in a file's place: opening one may do something."""
    attributes = syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC
    try:
        syscalls.mount_setattr(view.root, set_=attributes, recursive=True)
    except BaseException:
        view.close()
        raise
    return view


def _has_upper(proc: int, pid: int, upper: Path) -> bool:
    """Whether an overlay with this upper directory is on a process's root. Raises ProcessLookupError, OSError."""
    wanted = f"upperdir={upper}"
    try:
        mounted = mountinfo.entries(f"{pid}/mountinfo", proc)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):  # it is ending, and has no mounts any more, or has ended
            raise ProcessLookupError(errno.ESRCH, "it is ending") from None
        raise
    return any(one.point == "/" and wanted in one.of_all for one in mounted)


def _in_a_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread that ends with it: what it does to its namespaces must reach no other.

    In a container's namespace nothing may be imported, for it would be the container's: ``work`` uses only what is loaded.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
