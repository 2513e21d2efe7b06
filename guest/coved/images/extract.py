"""Unpacks one layer into a directory that overlayfs can use as a lower.

Every path is walked from the layer's root by directory descriptors with O_NOFOLLOW: a symbolic link inside a layer is
never followed, wherever it points, and ``..`` is refused. AUFS whiteouts, which image layers use (OCI image spec,
layer.md), become overlayfs's own (kernel, Documentation/filesystems/overlayfs.rst).
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from coved.images.tar import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMBOLIC_LINK,
    BadArchive,
    Entry,
    TarReader,
)
from coved.store.trees import OPAQUE as OPAQUE_ATTRIBUTE
from coved.store.trees import settle_entry

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_AUFS_PRIVATE = ".wh..wh."
_WHITEOUT_DEVICE = os.makedev(0, 0)

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    SYMBOLIC_LINK: stat.S_IFLNK,
    FIFO: stat.S_IFIFO,
    CHARACTER: stat.S_IFCHR,
    BLOCK_DEVICE: stat.S_IFBLK,
}
_CHUNK = 256 * 1024
_PATH_MAX = 4096
ENTRIES_MAX = 5_000_000
"""A layer of more entries than this is no layer that anyone made to be used."""

# The trusted and security classes steer the kernel (overlayfs redirects, for one): of them only capabilities pass.
_ALLOWED_ATTRIBUTES = ("user.", "security.capability", "system.posix_acl_")
_ATTRIBUTE_MAX = 65536
"""Bytes of one attribute; Linux takes no more (XATTR_SIZE_MAX)."""
ATTRIBUTES_MAX = 64 << 20
"""Bytes of all attributes of a layer."""
REMEMBERED_MAX = 96 << 20
"""Bytes of memory for directories, which are finished last: some 200,000 of them."""
_REMEMBERED_EACH = 320


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may ask for: entries, bytes of attributes, and bytes of memory for directories."""

    subject: str
    entries: int
    attributes: int
    remembered: int


@dataclass(frozen=True, slots=True)
class _Unfinished:
    """What a directory is given once it has been filled."""

    owner: tuple[int, int]
    mode: int
    mtime_ns: int
    attributes: dict[str, bytes] | None


class Extractor:
    """One layer being unpacked. ``size`` counts the bytes of its regular files."""

    def __init__(self, root: int, *, whiteouts: bool = True, limits: Limits | None = None) -> None:
        """
        Args:
            root: a descriptor of an empty directory; it stays the caller's.
            whiteouts: the archive is a layer's; another's files of such names are files.
            limits: a layer's when there are none.
        """
        self.size = 0
        self._whiteouts = whiteouts
        self._limits = limits or Limits("layer", ENTRIES_MAX, ATTRIBUTES_MAX, REMEMBERED_MAX)
        self._root = root
        self._parent_path: tuple[str, ...] | None = None
        self._parent = -1
        self._unfinished: dict[str, _Unfinished] = {}
        self._remembered = 0
        self._attribute_bytes = 0

    def extract(self, archive: TarReader) -> None:
        """Unpacks the whole archive; raises ``BadArchive`` for one that is damaged or that means harm."""
        try:
            for count, entry in enumerate(archive):
                if count >= self._limits.entries:
                    raise BadArchive(f"the {self._limits.subject} has more than {self._limits.entries} entries")
                self._place(entry, archive)
            for path, what in reversed(self._unfinished.items()):
                with _clear_errors(path or "/"):
                    self._finish(path, what)
        finally:
            self._forget_parent()

    def _place(self, entry: Entry, archive: TarReader) -> None:
        parts = split(entry.name)
        if not parts:
            if entry.type == DIRECTORY:
                self._finish_later((), entry)
            return
        *parents, name = parts
        with _clear_errors(entry.name):
            parent = self._open_parent(tuple(parents))
            if self._whiteouts and name.startswith(_WHITEOUT):
                self._white_out(parent, name)
            elif entry.type == DIRECTORY:
                self._make_directory(parent, name)
                self._finish_later(parts, entry)
            else:
                self._clear(parent, name)
                self._make(entry, parent, name, archive)

    # -- kinds of entries

    def _make(self, entry: Entry, parent: int, name: str, archive: TarReader) -> None:
        if entry.type == HARD_LINK:
            self._hard_link(entry, parent, name)
            return
        if entry.type == REGULAR:
            fd = os.open(name, _CREATE_FILE, 0o600, dir_fd=parent)
            try:
                self._write(fd, archive)
                os.fchown(fd, entry.uid, entry.gid)
                os.fchmod(fd, entry.mode)
                # After chown, which takes capabilities away, and chmod, which changes an ACL's mask.
                _set_attributes(fd, self._attributes(entry))
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            finally:
                os.close(fd)
            return
        if entry.type == SYMBOLIC_LINK:
            if not entry.link or len(os.fsencode(entry.link)) >= _PATH_MAX:
                raise BadArchive(f"{entry.name!r} is a symbolic link to nowhere")
            os.symlink(entry.link, name, dir_fd=parent)
        elif entry.type == FIFO:
            os.mkfifo(name, 0o600, dir_fd=parent)
        else:
            os.mknod(name, _KINDS[entry.type] | 0o600, os.makedev(*entry.device), dir_fd=parent)
        settle_entry(
            parent, name, _KINDS[entry.type], entry.mode, (entry.uid, entry.gid), (entry.mtime_ns, entry.mtime_ns)
        )

    def _write(self, fd: int, archive: TarReader) -> None:
        while data := archive.read(_CHUNK):
            self.size += len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]

    def _hard_link(self, entry: Entry, parent: int, name: str) -> None:
        parts = self._link_parts(entry)
        directory = self._walk(tuple(parts[:-1]), create=False)
        try:
            os.link(parts[-1], name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(directory)

    def _link_parts(self, entry: Entry) -> list[str]:
        """The components of what a hard link names. Raises BadArchive."""
        parts = split(entry.link)
        if not parts:
            raise BadArchive(f"{entry.name!r} is a hard link to nothing")
        return parts

    def _make_directory(self, parent: int, name: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                return
            self._clear(parent, name)
            os.mkdir(name, 0o755, dir_fd=parent)
            if _is_whiteout(status):
                self._make_opaque(parent, name)

    def _white_out(self, parent: int, name: str) -> None:
        if name == _OPAQUE:
            os.setxattr(parent, OPAQUE_ATTRIBUTE, b"y")
            return
        if name.startswith(_AUFS_PRIVATE):
            return
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise BadArchive(f"malformed whiteout {name!r} in the {self._limits.subject}")
        try:
            os.mknod(hidden, stat.S_IFCHR, _WHITEOUT_DEVICE, dir_fd=parent)
        except FileExistsError:
            # The layer itself puts something there: what is below stays hidden, what the layer has stays.
            if stat.S_ISDIR(os.stat(hidden, dir_fd=parent, follow_symlinks=False).st_mode):
                self._make_opaque(parent, hidden)

    def _make_opaque(self, parent: int, name: str) -> None:
        with _directory(name, parent) as fd:
            os.setxattr(fd, OPAQUE_ATTRIBUTE, b"y")

    def _clear(self, parent: int, name: str) -> None:
        """A later entry of the same name takes the place of an earlier one."""
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            try:
                os.rmdir(name, dir_fd=parent)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                raise BadArchive(f"{name!r} is a directory with content and then something else") from None

    # -- places

    def _open_parent(self, path: tuple[str, ...]) -> int:
        """Archives list directories one after another: the last parent is kept open."""
        if path != self._parent_path:
            self._forget_parent()
            self._parent = self._walk(path, create=True)
            self._parent_path = path
        return self._parent

    def _forget_parent(self) -> None:
        if self._parent >= 0:
            os.close(self._parent)
        self._parent, self._parent_path = -1, None

    def _walk(self, path: tuple[str, ...], *, create: bool) -> int:
        current = os.dup(self._root)
        try:
            for name in path:
                try:
                    child = os.open(name, _OPEN_DIRECTORY, dir_fd=current)
                except FileNotFoundError:
                    if not create:
                        raise BadArchive(f"{'/'.join(path)!r} is not in the {self._limits.subject}") from None
                    os.mkdir(name, 0o755, dir_fd=current)
                    child = os.open(name, _OPEN_DIRECTORY, dir_fd=current)
                except OSError as error:
                    if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                        raise
                    raise BadArchive(f"{'/'.join(path)!r} leads through {name!r}, which is no directory") from None
                os.close(current)
                current = child
        except BaseException:
            os.close(current)
            raise
        return current

    # -- what comes last: filling a directory changes its times, and what is made in it takes over its ACL and its group

    def _finish_later(self, path: Sequence[str], entry: Entry) -> None:
        key = "/".join(path)
        attributes = self._attributes(entry)
        if key not in self._unfinished:
            self._remembered += _REMEMBERED_EACH + len(key)
        self._remembered += sum(len(name) + len(value) for name, value in attributes.items())
        if self._remembered > self._limits.remembered:
            raise BadArchive(f"the {self._limits.subject} has too many directories")
        self._unfinished[key] = _Unfinished((entry.uid, entry.gid), entry.mode, entry.mtime_ns, attributes or None)

    def _finish_never(self, path: Sequence[str]) -> None:
        self._unfinished.pop("/".join(path), None)

    def _is_unfinished(self, path: Sequence[str]) -> bool:
        return "/".join(path) in self._unfinished

    def _finish(self, path: str, what: _Unfinished) -> None:
        try:
            fd = self._walk(tuple(path.split("/")) if path else (), create=False)
        except BadArchive:
            return  # replaced by a later entry
        try:
            os.fchown(fd, *what.owner)
            os.fchmod(fd, what.mode)
            _set_attributes(fd, what.attributes or {})
            os.utime(fd, ns=(what.mtime_ns, what.mtime_ns))
        finally:
            os.close(fd)

    def _attributes(self, entry: Entry) -> dict[str, bytes]:
        """Those that may be set. Raises BadArchive for what is too large."""
        allowed = {name: value for name, value in entry.attributes.items() if name.startswith(_ALLOWED_ATTRIBUTES)}
        for name, value in allowed.items():
            if len(value) > _ATTRIBUTE_MAX:
                raise BadArchive(f"{entry.name!r}: its attribute {name[:80]!r} is larger than {_ATTRIBUTE_MAX} bytes")
            self._attribute_bytes += len(name) + len(value)
        if self._attribute_bytes > self._limits.attributes:
            subject, most = self._limits.subject, self._limits.attributes
            raise BadArchive(f"the attributes of the {subject}'s files take more than {most} bytes")
        return allowed


@contextlib.contextmanager
def _clear_errors(name: str) -> Iterator[None]:
    """Says of what the archive made impossible that it did; a full or broken disk is not its doing."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
            raise
        raise BadArchive(f"cannot unpack {name!r}: {error.strerror}") from error
    except (OverflowError, ValueError) as error:  # numbers and names that no system call takes
        raise BadArchive(f"cannot unpack {name!r}: {error}") from error


def split(name: str) -> list[str]:
    """The components of an archive's path, taken from the root; raises ``BadArchive`` for ``..``."""
    if len(os.fsencode(name)) >= _PATH_MAX:
        raise BadArchive("a path in the archive is longer than 4096 bytes")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadArchive(f"{name!r} in the archive leads out of it")
    return parts


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == _WHITEOUT_DEVICE


def _set_attributes(fd: int, attributes: Mapping[str, bytes]) -> None:
    for name, value in attributes.items():
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            # Not every file system has user attributes and ACLs; capabilities must not be lost in silence.
            if error.errno != errno.ENOTSUP or name == "security.capability":
                raise


@contextlib.contextmanager
def _directory(name: str, parent: int) -> Iterator[int]:
    fd = os.open(name, _OPEN_DIRECTORY, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)
