"""Files that come into a file system: COPY, ADD and WORKDIR's folder, as BuildKit puts them there (tonistiigi/fsutil, copy).

The target is seen through an overlay of its own that is mounted nowhere, so that no path leads to it and nothing has to be
taken off, and only when there is something below: onto an empty file system files are written as they are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from coved.build.errors import BuildError
from coved.build.files import modes, owners, places, selection
from coved.build.files.places import (
    ATTRIBUTES,
    OPEN_DIRECTORY,
    OPEN_FILE,
    clean,
    join,
    open_exactly,
    resolve,
    split,
    status,
)
from coved.build.files.selection import ENTER, FILE, Filter, Found, Step
from coved.build.orders import CopyOrder
from coved.errors import no_room
from coved.runtime import mounts
from coved.store.trees import is_empty, remove_entry, remove_tree, settle_entry

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER_MODE = 0o755
_HEREDOC_MODE = 0o644
_CHUNK = 8 << 20
_NO_RANGES = (errno.ENOSYS, errno.EXDEV, errno.EPERM, errno.EIO, errno.EOPNOTSUPP, errno.EINVAL)

Wanted = Callable[[], bool]


def copy(
    order: CopyOrder,
    lower_dirs: Sequence[Path],
    upper: Path,
    work: Path,
    source_dirs: Sequence[Path] = (),
    *,
    wanted: Wanted = lambda: True,
) -> None:
    """Carries an order out; blocking. At the end nothing is mounted any more.

    Args:
        lower_dirs: of the target, topmost first (``order.lower``); what is changed comes into ``upper``.
        source_dirs: of ``order.files.refs``, topmost first.
        wanted: asked from time to time; when it says no the copy ends with an error.

    Raises BuildError in BuildKit's words, StorageFull.
    """
    try:
        with _target(order, lower_dirs, upper, work) as target:
            _Copy(order, target, source_dirs, wanted).run()
    except OSError as error:
        raise no_room(error) or BuildError(places.describe(error)) from error


class _Target(NamedTuple):
    root: int
    """Descriptor of the file system's root."""
    empty: bool
    """There is nothing in it but what this order puts there."""


@contextlib.contextmanager
def _target(order: CopyOrder, lower_dirs: Sequence[Path], upper: Path, work: Path) -> Iterator[_Target]:
    if order.link or not any(not is_empty(path) for path in lower_dirs):
        root = os.open(upper, OPEN_DIRECTORY)
        try:
            yield _Target(root, empty=True)
        finally:
            os.close(root)
        return
    lower = mounts.join_lower(lower_dirs)
    # What is written becomes durable with the snapshot, in one go for a whole build.
    options = [f"lowerdir={lower}", f"upperdir={upper}", f"workdir={work}", "volatile", "nodev", "nosuid", "noexec"]
    root = mounts.open_overlay(mounts.parse_options(options))
    try:
        yield _Target(root, empty=False)
    finally:
        os.close(root)
        remove_tree(work / "work" / "incompat")  # says that the directories must not be mounted again


class _Folder(NamedTuple):
    """A directory of a copy under way."""

    source: Step
    path: str
    """In the target."""
    fd: int = -1
    """-1 as long as nothing has been copied into it (``--parents``)."""
    new: bool = False


class _Copy:
    def __init__(self, order: CopyOrder, target: _Target, source_dirs: Sequence[Path], wanted: Wanted) -> None:
        self._order = order
        self._root = target.root
        self._device = os.fstat(target.root).st_dev
        self._source_dirs = source_dirs
        self._wanted = wanted
        self._owner = self._find_owner(target) if order.chown else None
        self._clears_set_ids = bool(order.classic) and (order.chown or order.files.directory is not None)
        self._mode = modes.parse(order.chmod) if order.chmod else None
        self._linked: dict[tuple[int, int], str] = {}

    def _find_owner(self, target: _Target) -> tuple[int, int]:
        if self._order.classic:
            return owners.find_known(self._order.chown, target.root)
        return owners.find(self._order.chown, target.root, empty=target.empty)

    def run(self) -> None:
        order = self._order
        if order.make_directory:
            self._make_folders(resolve(self._root, order.destination), _FOLDER_MODE)
            return
        if order.sources:
            with places.opened(order.files.directory, self._source_dirs) as root:
                if order.classic:
                    self._check_count(root)
                for text in order.sources:
                    self._source_copied(root, selection.parse(text, parents=order.parents, excludes=order.excludes))
        for name, path in order.downloads:
            self._download(name, path)
        for name, data in order.contents.items():
            self._content(name, data)

    def _check_count(self, root: int) -> None:
        """As the builder of before BuildKit had it."""
        order = self._order
        count = (
            sum(len(selection.find(root, one)) for one in order.sources) + len(order.downloads) + len(order.contents)
        )
        if not count:
            raise BuildError(f"{order.classic} failed: no source files were specified")
        if count > 1 and not order.destination.endswith("/"):
            raise BuildError(
                f"When using {order.classic} with more than one source file, the destination must be a directory and end "
                "with a /"
            )

    # -- what is copied

    def _source_copied(self, root: int, source: selection.Source) -> None:
        took = False
        for found in selection.find(root, source.path):
            if self._order.unpack and self._unpacked(root, found):
                took = True
                continue
            took |= self._found_copied(root, found, source.filter, contents=True)
        if source.required and not took:
            raise selection.NotThere(source.required)

    def _download(self, name: str, path: Path) -> None:
        """A file that was fetched, or a tree of git's."""
        with places.opened(path.parent) as root:
            found = status(root, path.name)
            if found is None:
                raise selection.NotThere(name)
            is_tree = stat.S_ISDIR(found.st_mode)
            if self._order.unpack_downloads and self._unpacked(root, Found(name, path.name, found)):
                return
            exclude = selection.parse("", parents=False, excludes=self._order.excludes).filter
            self._found_copied(root, Found("" if is_tree else name, path.name, found), exclude, contents=False)

    def _unpacked(self, root: int, found: Found) -> bool:
        if not stat.S_ISREG(found.status.st_mode):
            return False
        from coved.build.files import unpacking  # few builds have archives

        with _holding(open_exactly(root, found.path, OPEN_FILE)) as file:
            if not unpacking.is_archive(file):
                return False
            folder = resolve(self._root, self._order.destination)
            self._make_folders(folder, _FOLDER_MODE)
            with self._opened_folder(folder) as inside:
                unpacking.unpack(file, inside, self._owner, self._wanted)
        return True

    def _content(self, name: str, data: bytes) -> None:
        """A heredoc."""
        path = self._place(split(clean(name))[1], directory=False, contents=False)
        folder, last = split(path)
        with self._opened_folder(folder) as parent, _holding(self._created(parent, last, path)) as fd:
            left = memoryview(data)
            while left:
                left = left[os.write(fd, left) :]
            now = time.time_ns()
            self._settle(fd, _HEREDOC_MODE, (0, 0), (now, now))

    # -- where it goes

    def _place(self, name: str, *, directory: bool, contents: bool) -> str:
        """The path for what is called ``name``, whose folder is there then."""
        destination = self._order.destination
        mode = _FOLDER_MODE
        if self._mode is not None and self._mode.absolute is not None:
            mode = self._mode.absolute & 0o777
        folder = destination if destination.endswith(("/", "/.")) else destination.rpartition("/")[0]
        self._make_folders(resolve(self._root, folder), mode)
        path = resolve(self._root, destination)
        there = status(self._root, path)
        if there is not None and (not contents if directory else stat.S_ISDIR(there.st_mode)):
            path = join(path, name)
        self._make_folders(path if contents and directory and there is None else split(path)[0], mode)
        return path

    def _make_folders(self, path: str, mode: int) -> None:
        """``mode`` and the order's owner are of those that are missing."""
        try:
            os.close(open_exactly(self._root, path, OPEN_DIRECTORY))
            return
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            raise BuildError(f"mkdir /{path}: not a directory") from None
        current = os.dup(self._root)
        try:
            for name in path.split("/"):
                above, missing = current, False
                try:
                    current = os.open(name, OPEN_DIRECTORY, dir_fd=above)
                except FileNotFoundError:
                    os.mkdir(name, mode, dir_fd=above)
                    current, missing = os.open(name, OPEN_DIRECTORY, dir_fd=above), True
                os.close(above)
                if missing:
                    if self._owner is not None:
                        os.fchown(current, *self._owner)
                    os.fchmod(current, mode)
        except NotADirectoryError:
            raise BuildError(f"mkdir /{path}: not a directory") from None
        finally:
            os.close(current)

    def _opened_folder(self, path: str) -> contextlib.AbstractContextManager[int]:
        return _holding(open_exactly(self._root, path, OPEN_DIRECTORY))

    # -- copying itself

    def _found_copied(self, root: int, found: Found, filter: Filter, *, contents: bool) -> bool:
        """Whether anything was taken."""
        directory = stat.S_ISDIR(found.status.st_mode)
        target = self._place(split(found.named)[1], directory=directory, contents=contents)
        self._linked = {}
        if not directory:
            above, name = split(target)
            with self._opened_folder(above) as parent, self._walking(root, found, filter) as steps:
                for step in steps:
                    self._file(step, parent, name, target)
            return True
        took = False
        levels: list[_Folder] = []
        try:
            with self._walking(root, found, filter) as steps:
                for step in steps:
                    if step.kind == ENTER:
                        levels.append(_Folder(step, join(levels[-1].path, step.name) if levels else target))
                        if step.taken:
                            took |= len(levels) > 1
                            self._fill(levels)
                    elif step.kind == FILE:
                        took = True
                        self._fill(levels)
                        folder = levels[-1]
                        self._file(step, folder.fd, step.name, join(folder.path, step.name))
                    else:
                        self._leave(levels.pop(), top=not levels)
        finally:
            for level in levels:
                if level.fd >= 0:
                    os.close(level.fd)
        return took

    def _walking(self, root: int, found: Found, filter: Filter) -> contextlib.closing[Generator[Step, None, None]]:
        """Closed at the end, for it has directories open, and they what is mounted."""
        return contextlib.closing(selection.walk(root, found, filter, self._wanted))

    def _fill(self, levels: list[_Folder]) -> None:
        """Makes the directories that something is taken in."""
        if levels[-1].fd >= 0:
            return
        for index, level in enumerate(levels):
            if level.fd < 0:
                levels[index] = self._entered(level, levels[index - 1].fd if index else -1)

    def _entered(self, level: _Folder, above: int) -> _Folder:
        """``above`` is the directory that it is made in, -1 for the first of a copy."""
        if above < 0:
            folder, name = split(level.path)
            with self._opened_folder(folder) as parent:
                fd, new = self._directory(parent, name or ".", level.path)
        else:
            fd, new = self._directory(above, level.source.name, level.path)
        if not level.source.taken and new:
            self._settle_like(fd, level.source)
        elif above >= 0 and not new:
            os.fchmod(fd, stat.S_IMODE(level.source.status.st_mode))
        return level._replace(fd=fd, new=new)

    def _directory(self, parent: int, name: str, path: str) -> tuple[int, bool]:
        """A directory that is there then, and whether it was not before."""
        new = True
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            new = False
        try:
            return os.open(name, OPEN_DIRECTORY, dir_fd=parent), new
        except NotADirectoryError:
            if self._order.classic:
                os.unlink(name, dir_fd=parent)
                return self._directory(parent, name, path)
            raise BuildError(f"cannot copy to non-directory: /{path}") from None

    def _leave(self, level: _Folder, *, top: bool) -> None:
        """What comes last, for filling a directory changes its times."""
        if level.fd < 0:
            return
        try:
            if not level.source.taken:
                return
            if level.new or not top:
                self._settle_like(level.fd, level.source)
            else:  # it stays as it was, but takes the time of what has come into it
                found = level.source.status
                os.utime(level.fd, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(level.fd)

    def _file(self, step: Step, parent: int, name: str, path: str) -> None:
        """Whatever is no directory."""
        found = step.status
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFREG:
            self._regular(step, parent, name, path)
        elif kind == stat.S_IFSOCK:  # it means nothing without its process, and leaves an empty file
            with _holding(self._created(parent, name, path)) as fd:
                times = found.st_atime_ns, found.st_mtime_ns
                self._settle(fd, stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid), times)
        elif kind == stat.S_IFLNK:
            self._symlink(step, parent, name, path)
        else:
            self._special(step, parent, name, path)

    def _regular(self, step: Step, parent: int, name: str, path: str) -> None:
        found = step.status
        if found.st_nlink > 1:
            inode = found.st_dev, found.st_ino
            if inode in self._linked:
                self._make_room(parent, name, path)
                folder, last = split(self._linked[inode])
                with self._opened_folder(folder) as other:
                    os.link(last, name, src_dir_fd=other, dst_dir_fd=parent, follow_symlinks=False)
                return
            self._linked[inode] = path
        source = os.open(step.name, OPEN_FILE, dir_fd=step.parent)
        try:
            fd = self._created(parent, name, path)
            try:
                self._write(source, fd, found)
                times = found.st_atime_ns, found.st_mtime_ns
                self._settle(fd, stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid), times)
                _copy_attributes(source, fd)
            finally:
                os.close(fd)
        finally:
            os.close(source)

    def _write(self, source: int, fd: int, found: os.stat_result) -> None:
        left = found.st_size
        ranges = found.st_dev == self._device
        while left > 0:
            try:
                # Ranges share their blocks where the file system can do that.
                size = min(left, _CHUNK)
                count = os.copy_file_range(source, fd, size) if ranges else os.sendfile(fd, source, None, size)
            except OSError as error:
                if not ranges or error.errno not in _NO_RANGES:
                    raise
                ranges = False
                continue
            if not count:
                break
            left -= count
            if left > 0 and not self._wanted():
                raise BuildError("context canceled")

    def _symlink(self, step: Step, parent: int, name: str, path: str) -> None:
        found = step.status
        link = os.readlink(step.name, dir_fd=step.parent)
        try:
            os.symlink(link, name, dir_fd=parent)
        except FileExistsError:
            self._make_room(parent, name, path)
            os.symlink(link, name, dir_fd=parent)
        owner = self._owner or (found.st_uid, found.st_gid)
        os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _special(self, step: Step, parent: int, name: str, path: str) -> None:
        """A FIFO or a device node."""
        found = step.status
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFCHR and found.st_rdev == 0:  # it would take away what is below
            raise BuildError(f"failed to create device: mknod /{path}: operation not permitted")
        self._make_room(parent, name, path)
        os.mknod(name, kind | 0o600, found.st_rdev, dir_fd=parent)
        mode = stat.S_IMODE(found.st_mode)
        mode = self._mode.of(mode, directory=False) if self._mode is not None else mode
        owner = self._owner or (found.st_uid, found.st_gid)
        settle_entry(parent, name, kind, mode, owner, (found.st_atime_ns, found.st_mtime_ns))

    def _created(self, parent: int, name: str, path: str) -> int:
        """A new file, in the place of whatever is there but a directory."""
        try:
            return os.open(name, _CREATE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._make_room(parent, name, path)
        return os.open(name, _CREATE, 0o600, dir_fd=parent)

    def _make_room(self, parent: int, name: str, path: str) -> None:
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            if self._order.classic:
                remove_entry(parent, name)
                return
            raise BuildError(f"cannot replace to directory /{path} with file") from None

    def _settle_like(self, fd: int, step: Step) -> None:
        """Of a directory."""
        found = step.status
        times = found.st_atime_ns, found.st_mtime_ns
        self._settle(fd, stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid), times, directory=True)
        _copy_attributes(step.directory, fd)

    def _settle(
        self, fd: int, mode: int, owner: tuple[int, int], times_ns: tuple[int, int], *, directory: bool = False
    ) -> None:
        os.fchown(fd, *(self._owner or owner))
        if self._clears_set_ids and not directory:
            mode &= ~(stat.S_ISUID | (stat.S_ISGID if mode & stat.S_IXGRP else 0))
        # After chown, which takes the set-id bits away.
        os.fchmod(fd, self._mode.of(mode, directory=directory) if self._mode is not None else mode)
        os.utime(fd, ns=times_ns)


def _copy_attributes(source: int, target: int) -> None:
    """After chown, which takes capabilities away."""
    for name in os.listxattr(source):
        if not name.startswith(ATTRIBUTES):
            continue
        # Not every file system has user attributes and ACLs; BuildKit goes on without them, too.
        with contextlib.suppress(OSError):
            os.setxattr(target, name, os.getxattr(source, name))


@contextlib.contextmanager
def _holding(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
