"""Puts an archive that a container made beneath a local directory, and nowhere else.

Every name is walked from that directory by open directories and through no link, so that neither the archive nor a
process that changes the tree meanwhile (the directory may be mounted into the container) leads outside of it. Where
docker and this differ, this refuses: names beneath a link, hard links to what the archive did not bring, devices.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from cove.cli.cp.paths import LOCAL
from cove.cli.cp.tarball import (
    BLOCK_DEVICE,
    CAPABILITY,
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
from cove.cli.errors import CliError
from cove.cli.quoting import quoted

_BY_DESCRIPTOR = os.open in os.supports_dir_fd
"""Whether this system can walk by open directories; Windows cannot and looks at every name on the way."""
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0) | _NO_LINK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | _NO_LINK
_LATEST = (1 << 63) - 1


@dataclass(slots=True)
class _Parent:
    """An open directory (`descriptor`), or where there are no such things its path."""

    path: str
    descriptor: int | None = None

    def name(self, last: str) -> str:
        return last if self.descriptor is not None else os.path.join(self.path, last)

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


class Unpacker:
    """`root` is the directory that everything goes beneath; it exists."""

    def __init__(self, root: str) -> None:
        self.root = LOCAL.clean(root)
        self._made: set[tuple[int, int]] = set()
        self._directories: dict[tuple[str, ...], tuple[int, int]] = {}
        self._known: tuple[tuple[str, ...], _Parent] | None = None

    def unpack(self, reader: TarReader, old: str = "", new: str = "") -> None:
        """Place all entries, the first `old` in their names as `new`. Owners are the caller's; modes and times the
        archive's. Raises `CliError`: in docker's words for what is in the way, `BadArchive` for what is not allowed.
        """
        from cove.cli.cp.paths import renamed

        try:
            for entry in reader:
                if old or new:
                    entry.name = renamed(entry.name, old, new)
                    if entry.type == HARD_LINK:
                        entry.link = renamed(entry.link, old, new)
                self._place(entry, reader)
        except BaseException:
            with suppress(CliError):
                self._finish_directories()
            raise
        else:
            self._finish_directories()
        finally:
            self._forget()

    def _place(self, entry: Entry, reader: TarReader) -> None:
        name = posixpath.normpath(entry.name)
        parts = self._parts(name)
        path = LOCAL.join(self.root, *parts)
        if not parts:
            if entry.type != DIRECTORY:
                raise BadArchive(f"cannot overwrite directory {quoted(path)} with non-directory {quoted(self.root)}")
            return
        with self._told("lstat", path):
            parent = self._parent(parts[:-1], name)
            at = parent.name(parts[-1])
            found = _lstat(at, parent)
        if found is not None:
            is_directory = stat.S_ISDIR(found.st_mode)
            if is_directory and entry.type != DIRECTORY:
                raise CliError(f"cannot overwrite directory {quoted(path)} with non-directory {quoted(self.root)}")
            if not is_directory and entry.type == DIRECTORY:
                raise CliError(f"cannot overwrite non-directory {quoted(path)} with directory {quoted(self.root)}")
            if not is_directory:
                with self._told("unlink", path):
                    os.unlink(at, dir_fd=parent.descriptor)
        if entry.type == DIRECTORY:
            if found is None:
                with self._told("mkdir", path):
                    os.mkdir(at, 0o700, dir_fd=parent.descriptor)
            self._directories[parts] = (entry.mode, entry.mtime)
            return
        if entry.type == REGULAR:
            self._file(entry, reader, path, at, parent)
        elif entry.type == SYMBOLIC_LINK:
            self._symbolic_link(entry, parts, path, at, parent)
        elif entry.type == HARD_LINK:
            self._hard_link(entry, path, at, parent)
        elif entry.type == FIFO:
            self._fifo(entry, path, at, parent)
        elif entry.type in (CHARACTER, BLOCK_DEVICE):
            # What a user gets from docker. Root would get the node, with whatever owner and mode the container chose.
            raise BadArchive("operation not permitted")
        else:
            raise BadArchive(f"unhandled tar header type {ord(entry.type)}")
        made = _lstat(at, parent)
        if made is not None:
            self._made.add((made.st_dev, made.st_ino))

    def _file(self, entry: Entry, reader: TarReader, path: str, at: str, parent: _Parent) -> None:
        with self._told("open", path):
            descriptor = os.open(at, _CREATE, 0o600, dir_fd=parent.descriptor)
        try:
            for data in reader.content():
                view = memoryview(data)
                with self._told("write", path):
                    while view:
                        view = view[os.write(descriptor, view) :]
            if sys.platform == "linux" and entry.capability:
                self._capability(descriptor, entry.capability, path)
            if sys.platform != "win32" and _BY_DESCRIPTOR:
                with self._told("chmod", path):
                    os.fchmod(descriptor, entry.mode)
                with self._told("chtimes", path):
                    os.utime(descriptor, ns=_times(entry.mtime))
        finally:
            os.close(descriptor)
        if not _BY_DESCRIPTOR:
            with self._told("chtimes", path):
                os.utime(at, ns=_times(entry.mtime))
                os.chmod(at, entry.mode)

    def _capability(self, descriptor: int, value: bytes, path: str) -> None:
        if sys.platform == "linux":
            try:
                os.setxattr(descriptor, CAPABILITY, value)
            except PermissionError:
                return  # of root only; the file is no less what was in the archive
            except OSError as error:
                raise CliError(f"lsetxattr {_shown(path)}: {_words(error)}") from error

    def _symbolic_link(self, entry: Entry, parts: tuple[str, ...], path: str, at: str, parent: _Parent) -> None:
        # Docker's rule: beneath the root, or absolute, for an absolute one is read in the container it came from.
        inner = posixpath.normpath("/".join([*parts[:-1], entry.link.lstrip("/") or "."]))
        if inner == ".." or inner.startswith("../"):
            raise BadArchive(f"invalid symlink {quoted(path)} -> {quoted(entry.link)}")
        with self._told(f"symlink {entry.link}", path):
            os.symlink(entry.link.replace("/", os.sep), at, dir_fd=parent.descriptor)
            self._link_times(at, entry.mtime, parent)

    def _hard_link(self, entry: Entry, path: str, at: str, parent: _Parent) -> None:
        name = posixpath.normpath(entry.link)
        target = LOCAL.join(self.root, *name.strip("/").split("/"))
        refusal = BadArchive(f"invalid hardlink {quoted(target)} -> {quoted(entry.link)}")
        try:
            parts = self._parts(name)
        except BadArchive:
            raise refusal from None
        if not parts:
            raise refusal
        directory: _Parent | None = None
        with self._told(f"link {target}", path):
            try:
                directory = self._open(parts[:-1], name, make=False)
                source = directory.name(parts[-1])
                found = _lstat(source, directory)
                if found is None:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                if (found.st_dev, found.st_ino) not in self._made:
                    raise refusal
                os.link(
                    source,
                    at,
                    src_dir_fd=directory.descriptor,
                    dst_dir_fd=parent.descriptor,
                    follow_symlinks=os.link not in os.supports_follow_symlinks,
                )
            finally:
                if directory is not None:
                    directory.close()

    def _fifo(self, entry: Entry, path: str, at: str, parent: _Parent) -> None:
        if sys.platform == "win32":
            raise CliError(f"mkfifo {_shown(path)}: not supported by windows")
        with self._told("mkfifo", path):
            umask = os.umask(0)  # a mode given afterwards would go to whatever has this name by then
            try:
                if os.mkfifo in os.supports_dir_fd:
                    os.mkfifo(at, entry.mode, dir_fd=parent.descriptor)
                else:
                    os.mkfifo(path, entry.mode)  # macOS before 13
            finally:
                os.umask(umask)
            self._link_times(at, entry.mtime, parent)

    def _link_times(self, at: str, mtime: int, parent: _Parent) -> None:
        """Times of a name itself, wherever it leads; not every system can set them."""
        if os.utime in os.supports_follow_symlinks and (parent.descriptor is None or os.utime in os.supports_dir_fd):
            os.utime(at, ns=_times(mtime), dir_fd=parent.descriptor, follow_symlinks=False)

    def _finish_directories(self) -> None:
        """Only at the end: what is put into a directory changes its time, and its mode may forbid it."""
        for parts, (mode, mtime) in self._directories.items():
            self._finish_directory(parts, mode, mtime)

    def _finish_directory(self, parts: tuple[str, ...], mode: int, mtime: int) -> None:
        path = LOCAL.join(self.root, *parts)
        with self._told("chtimes", path):
            parent = self._open(parts[:-1], path, make=False)
            try:
                at = parent.name(parts[-1])
                if sys.platform == "win32" or not _BY_DESCRIPTOR:
                    os.utime(at, ns=_times(mtime))
                    return
                descriptor = os.open(at, os.O_RDONLY | _DIRECTORY, dir_fd=parent.descriptor)
                try:
                    os.utime(descriptor, ns=_times(mtime))
                    os.fchmod(descriptor, mode)
                finally:
                    os.close(descriptor)
            finally:
                parent.close()

    def _parts(self, name: str) -> tuple[str, ...]:
        """The words of a cleaned name. Raises `BadArchive` when it leads out."""
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        # Elsewhere other characters separate words, name drives ("C:") or streams ("file:stream").
        odd = os.sep != "/" and any("\\" in part or ":" in part for part in parts)
        if odd or parts[:1] == ("..",):
            raise BadArchive(f"{quoted(name)} is outside of {quoted(self.root)}")
        return parts

    def _parent(self, parts: tuple[str, ...], name: str) -> _Parent:
        """The directory beneath the root that an entry goes into, made when it is missing; entries come by
        directory, so that the last one is kept open.
        """
        if self._known is None or self._known[0] != parts:
            self._forget()
            self._known = parts, self._open(parts, name, make=True)
        return self._known[1]

    def _forget(self) -> None:
        if self._known is not None:
            self._known[1].close()
            self._known = None

    def _open(self, parts: tuple[str, ...], name: str, *, make: bool) -> _Parent:
        if not _BY_DESCRIPTOR:
            return self._look(parts, name, make=make)
        access = os.O_RDONLY
        if sys.platform == "linux":
            access = os.O_PATH  # which needs no permission to list the directory
        # The root is the user's own word and may be a link.
        at = os.open(self.root, access | (_DIRECTORY & ~getattr(os, "O_NOFOLLOW", 0)))
        for part in parts:
            try:
                try:
                    inner = os.open(part, access | _DIRECTORY, dir_fd=at)
                except FileNotFoundError:
                    if not make:
                        raise
                    os.mkdir(part, 0o755, dir_fd=at)
                    inner = os.open(part, access | _DIRECTORY, dir_fd=at)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR) and _is_link(part, at):
                    raise BadArchive(f"{quoted(name)} is outside of {quoted(self.root)}") from error
                raise
            finally:
                os.close(at)
            at = inner
        return _Parent(self.root, at)

    def _look(self, parts: tuple[str, ...], name: str, *, make: bool) -> _Parent:
        path = self.root
        for part in parts:
            path = os.path.join(path, part)
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                if not make:
                    raise
                os.mkdir(path, 0o755)
                continue
            # A junction is a reparse point as a link is.
            if stat.S_ISLNK(found.st_mode) or _is_reparse_point(found):
                raise BadArchive(f"{quoted(name)} is outside of {quoted(self.root)}")
        return _Parent(path)

    @contextmanager
    def _told(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CliError(f"{_shown(verb)} {_shown(path)}: {_words(error)}") from error


def _shown(text: str) -> str:
    """`text`, some of which a container chose, without what would move the terminal's cursor."""
    return text if text.isprintable() else quoted(text)[1:-1]


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _lstat(at: str, parent: _Parent) -> os.stat_result | None:
    try:
        return os.stat(at, dir_fd=parent.descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_link(part: str, at: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(part, dir_fd=at, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _is_reparse_point(found: os.stat_result) -> bool:
    return sys.platform == "win32" and found.st_reparse_tag != 0


def _times(mtime: int) -> tuple[int, int]:
    """Access and modification time; what no clock shows is the epoch, as in docker."""
    bound = mtime if 0 <= mtime <= _LATEST else 0
    return bound, bound
