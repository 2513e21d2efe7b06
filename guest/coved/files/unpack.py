"""Puts what an archive holds into a directory of a container, by the rules of ``docker cp``; ADD of a build has the same."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat

from coved.errors import EngineError, InvalidParameter
from coved.images.extract import Extractor, split
from coved.images.tar import DIRECTORY, BadArchive, Entry, TarReader
from coved.runtime.ids import Ids
from coved.runtime.paths import open_in_root
from coved.store.trees import remove_entry

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC
_BROKEN = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""The disk's fault, and not the archive's."""


class Unpacker(Extractor):
    """Unlike a layer's archive, this one meets files that are there, and follows links, all within the root."""

    def __init__(self, root: int, ids: Ids, target: str, *, keep_kinds: bool, owner: tuple[int, int] | None) -> None:
        """
        Args:
            root: descriptor of the root, and ``ids`` whose its files are.
            target: the directory, from the root of the container.
            keep_kinds: a directory never takes the place of something else, nor the reverse.
            owner: uid and gid of everything, as the container has them; None takes them from the archive.
        """
        super().__init__(root)
        self._target = target.rstrip("/")
        self._base = -1
        self._keep_kinds = keep_kinds
        self._owner = owner
        self._ids = ids

    def extract(self, archive: TarReader) -> None:
        """Raises BadArchive, InvalidParameter, EngineError (a read-only file system), OSError (a full disk)."""
        self._base = open_in_root(self._root, self._target or "/", _OPEN_DIRECTORY)
        try:
            super().extract(archive)
        finally:
            os.close(self._base)

    def _parts(self, name: str) -> list[str]:
        """A name's components, cleaned as dockerd cleans them. Raises BadArchive in its words."""
        clean = os.path.normpath("/" + name if name.startswith("/") else f"./{name}")
        if clean == ".." or clean.startswith("../"):
            raise BadArchive(f'"{clean}" is outside of "{self._target or "/"}"')
        return split(clean)

    def _place(self, entry: Entry, archive: TarReader) -> None:
        if self._owner is not None or self._ids.differ:
            uid, gid = self._ids.outside(*(self._owner or (entry.uid, entry.gid)))
            entry = dataclasses.replace(entry, uid=uid, gid=gid)
        parts = self._parts(entry.name)
        if not parts:
            return  # the directory itself stays as it is
        *parents, name = parts
        try:
            parent = self._open_parent(tuple(parents))
            kept = self._make_room(entry, parent, name)
            if entry.type == DIRECTORY:
                if not kept:
                    os.mkdir(name, 0o755, dir_fd=parent)
                self._finish_later(parts, entry)
            else:
                self._finish_never(parts)
                self._make(entry, parent, name, archive)
        except OSError as error:
            if error.errno in _BROKEN:
                raise
            if error.errno == errno.EROFS:  # a read-only volume below the target
                raise EngineError(f"cannot unpack {entry.name!r}: {error.strerror}") from error
            raise BadArchive(f"cannot unpack {entry.name!r}: {error.strerror}") from error
        except (OverflowError, ValueError) as error:  # a number that no system call takes
            raise BadArchive(f"cannot unpack {entry.name!r}: {error}") from error

    def _make_room(self, entry: Entry, parent: int, name: str) -> bool:
        """Remove what is in the way; whether a directory is there already for a directory."""
        try:
            is_directory = stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False
        wants_directory = entry.type == DIRECTORY
        if self._keep_kinds and is_directory != wants_directory:
            kinds = ("directory", "non-directory") if is_directory else ("non-directory", "directory")
            path = f"{self._target}/{entry.name.strip('/')}"
            raise InvalidParameter(f'cannot overwrite {kinds[0]} "{path}" with {kinds[1]} "{self._target or "/"}"')
        if is_directory and wants_directory:
            return True
        remove_entry(parent, name)
        return False

    def _link_parts(self, entry: Entry) -> list[str]:
        try:
            parts = self._parts(entry.link)
        except BadArchive:
            parts = []
        if not parts:
            path = "/".join([self._target, *self._parts(entry.name)])
            raise BadArchive(f'invalid hardlink "{path}" -> "{entry.link}"')
        return parts

    def _walk(self, path: tuple[str, ...], *, create: bool) -> int:
        """A link that was there is followed, inside the root. What this archive made a directory must still be one: else
        a process of the container without rights could have root's files written, and given modes, wherever it likes."""
        current = os.dup(self._base)
        try:
            for index, name in enumerate(path):
                child = self._step(current, path[: index + 1], name, create=create)
                os.close(current)
                current = child
        except BaseException:
            os.close(current)
            raise
        return current

    def _step(self, parent: int, path: tuple[str, ...], name: str, *, create: bool) -> int:
        try:
            return os.open(name, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise BadArchive(f"{'/'.join(path)!r} is not there") from None
            os.mkdir(name, 0o755, dir_fd=parent)
            made = os.open(name, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
            if self._ids.differ:  # the engine's own user is nobody in there
                os.fchown(made, *self._ids.outside(0, 0))
            return made
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
        if self._is_unfinished(path):
            raise BadArchive(f"{'/'.join(path)!r} was replaced while it was being filled")
        return open_in_root(self._root, "/".join([self._target, *path]), _OPEN_DIRECTORY)
