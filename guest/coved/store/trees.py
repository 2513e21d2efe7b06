"""Directory trees with everything that a file system keeps: owners, modes, times, extended attributes, devices.

All of it descends by directory descriptors with O_NOFOLLOW, so that a symbolic link inside a tree (volumes and layers
belong to containers) is a link and never a way out of the tree.
"""

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_ITSELF = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1024 * 1024

OPAQUE = "trusted.overlay.opaque"
"""The attribute of a directory of an overlay that hides what is below it (kernel, Documentation/filesystems/overlayfs.rst)."""

Inode = tuple[int, int]


def is_empty(directory: Path) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None


def is_opaque(directory: int) -> bool:
    """Of a descriptor; what has no attributes is not."""
    with contextlib.suppress(OSError):
        return os.getxattr(directory, OPAQUE) == b"y"
    return False


def remove_tree(path: Path, wanted: Callable[[], bool] = lambda: True) -> None:
    """Removes a file or a tree, also one that its owner may not write; does nothing when there is none.

    Leaves the rest when it is not ``wanted`` any more, which is asked before each file.
    """
    try:
        parent = os.open(path.parent, _OPEN_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        remove_entry(parent, path.name, wanted)
    finally:
        os.close(parent)


def remove_entry(parent: int, name: str, wanted: Callable[[], bool] = lambda: True) -> None:
    """Removes ``name``, whatever it is, from the directory ``parent``, as long as it is ``wanted``."""
    if _unlink(parent, name):
        return
    with _Descent(os.open(name, _OPEN_DIRECTORY, dir_fd=parent)) as descent:
        levels = [("", descent.names())]
        while levels:
            folder, names = levels[-1]
            while names:
                if not wanted():
                    return
                child = names.pop()
                if not _unlink(descent.fd, child):
                    descent.enter(child)
                    levels.append((child, descent.names()))
                    break
            else:
                levels.pop()
                if levels:
                    descent.leave()
                    os.rmdir(folder, dir_fd=descent.fd)
    os.rmdir(name, dir_fd=parent)


def _unlink(parent: int, name: str) -> bool:
    """False for a directory, which stays: Linux says EISDIR of one. EPERM, which POSIX has for it, means that the entry or
    ``parent`` is immutable or append-only (unlink(2))."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EISDIR:
            raise
        return False
    return True


class _Descent:
    """One directory at a time of a tree that may be nested as deep as a container likes. Owns ``fd``, the present one."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._above: list[Inode] = []

    def __enter__(self) -> "_Descent":
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)

    def names(self) -> list[str]:
        return os.listdir(self.fd)  # noqa: PTH208 - of a descriptor

    def enter(self, name: str) -> None:
        child = os.open(name, _OPEN_DIRECTORY, dir_fd=self.fd)
        status = os.fstat(self.fd)
        self._above.append((status.st_dev, status.st_ino))
        os.close(self.fd)
        self.fd = child

    def leave(self) -> None:
        """Back to the directory that this one was entered from. Raises OSError when it has been moved from there."""
        parent = os.open("..", _OPEN_DIRECTORY, dir_fd=self.fd)
        status = os.fstat(parent)
        if (status.st_dev, status.st_ino) != self._above.pop():
            os.close(parent)
            raise OSError(errno.ESTALE, "a directory was moved while it was walked through")
        os.close(self.fd)
        self.fd = parent


def settle_entry(
    parent: int, name: str, kind: int, mode: int, owner: tuple[int, int], times_ns: tuple[int, int]
) -> None:
    """Gives owner, mode and times (access, modification) to ``name``, which has just been made and is no regular file.

    Not by its name: a container that works in ``parent`` may have put a link there by now, chmod(2) follows links, and
    an absolute one leads from the machine's own root. Raises OSError when it is not of the ``kind`` (stat.S_IF*) any more.
    """
    fd = os.open(name, _OPEN_ITSELF, dir_fd=parent)
    try:
        if stat.S_IFMT(os.fstat(fd).st_mode) != kind:
            raise OSError(errno.ESTALE, "it was replaced while it was made", name)
        itself = f"/proc/self/fd/{fd}"  # of a link the link: magic links end where they lead
        os.chown(itself, *owner)
        if kind != stat.S_IFLNK:
            os.chmod(itself, mode)  # noqa: PTH101 - no path, but a descriptor's name
        os.utime(itself, ns=times_ns)
    finally:
        os.close(fd)


def tree_size(path: Path, *, files_only: bool = False) -> int:
    """Bytes in the files of a tree as their lengths tell, and of its links' texts; hard links count once, directories nothing.

    That is dockerd's figure for what a container has written and for volumes (its ``directory.Size``). With ``files_only``
    links count nothing either, as in the size of a layer.
    """
    total, seen = 0, set[Inode]()
    with _Descent(os.open(path, _OPEN_DIRECTORY)) as descent:
        levels = [descent.names()]
        while levels:
            while levels[-1]:
                name = levels[-1].pop()
                # The tree may be in use: what vanishes meanwhile has no size.
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    status = os.stat(name, dir_fd=descent.fd, follow_symlinks=False)
                    inode = (status.st_dev, status.st_ino)
                    if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                        if inode in seen:
                            continue
                        seen.add(inode)
                    if not stat.S_ISDIR(status.st_mode):
                        total += status.st_size if stat.S_ISREG(status.st_mode) or not files_only else 0
                    else:
                        descent.enter(name)
                        levels.append(descent.names())
            levels.pop()
            if levels:
                try:
                    descent.leave()
                except OSError as error:
                    if error.errno != errno.ESTALE:
                        raise
                    break  # moved away by whoever uses the tree: there is no way back
    return total


def copy_tree(source: int, target: Path) -> None:
    """Copies what is in the directory of the descriptor ``source`` into ``target``, which takes its owner, mode and times."""
    target_fd = os.open(target, _OPEN_DIRECTORY)
    try:
        _Copy(target_fd).directory(source, target_fd, "")
    finally:
        os.close(target_fd)


class _Copy:
    """One copy under way; remembers files with several names, to link them again."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._linked: dict[Inode, str] = {}

    def directory(self, source: int, target: int, path: str) -> None:
        for name in os.listdir(source):
            self._entry(source, target, name, f"{path}/{name}" if path else name)
        status = os.fstat(source)
        os.fchown(target, status.st_uid, status.st_gid)
        os.fchmod(target, stat.S_IMODE(status.st_mode))
        copy_attributes(source, target)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _entry(self, source: int, target: int, name: str, path: str) -> None:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        inode = (status.st_dev, status.st_ino)
        if inode in self._linked and not stat.S_ISDIR(status.st_mode):
            self._link(self._linked[inode], target, name)
            return
        if status.st_nlink > 1:
            self._linked[inode] = path
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            with _opened(name, _OPEN_DIRECTORY, source) as from_fd, _opened(name, _OPEN_DIRECTORY, target) as to_fd:
                self.directory(from_fd, to_fd, path)
            return
        if stat.S_ISREG(status.st_mode):
            self._file(source, target, name, status)
            return
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        elif stat.S_ISSOCK(status.st_mode):
            return
        else:
            os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=target)
        times = (status.st_atime_ns, status.st_mtime_ns)
        owner = (status.st_uid, status.st_gid)
        settle_entry(target, name, stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), owner, times)

    def _link(self, path: str, target: int, name: str) -> None:
        """Another name for what was copied to ``path``, found again without following a link on the way there."""
        *folders, last = path.split("/")
        with contextlib.ExitStack() as stack:
            folder = self._root
            for part in folders:
                folder = stack.enter_context(_opened(part, _OPEN_DIRECTORY, folder))
            os.link(last, name, src_dir_fd=folder, dst_dir_fd=target, follow_symlinks=False)

    def _file(self, source: int, target: int, name: str, status: os.stat_result) -> None:
        reading = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        writing = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with _opened(name, reading, source) as from_fd, _opened(name, writing, target) as to_fd:
            while os.sendfile(to_fd, from_fd, None, _CHUNK):
                pass
            os.fchown(to_fd, status.st_uid, status.st_gid)
            os.fchmod(to_fd, stat.S_IMODE(status.st_mode))
            copy_attributes(from_fd, to_fd)
            os.utime(to_fd, ns=(status.st_atime_ns, status.st_mtime_ns))


def sync(path: Path) -> None:
    """A file's content, or what a directory has, to the disk (fsync(2)). Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file_system(fd: int) -> None:
    """All of the file system that a descriptor is of (syncfs(2)): one call for thousands of small files, where fsync would be one
    each. Raises OSError."""
    if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@contextlib.contextmanager
def opened_directory(directory: Path) -> Iterator[int]:
    """A descriptor of a directory, which must not be reached by a link at its end. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _opened(name: str, flags: int, directory: int) -> Iterator[int]:
    fd = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)


def copy_attributes(source: int, target: int) -> None:
    """Extended attributes but overlayfs's own, as far as the target's file system has them."""
    for name in os.listxattr(source):
        if name.startswith("trusted.overlay."):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
