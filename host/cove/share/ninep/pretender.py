"""Operations that are only pretended, so that the guest's kernel tells of the host's changes as if they had been made there.

A helper in the guest repeats what has happened on the host: it creates the file that the host has created, and the kernel
tells whoever watches. Linux's client attaches once for each user (``access=client``), and the helper has a uid of its own: by that its
requests are known. What it asks for changes nothing on the host, ever; the guest can fool nobody but itself.

The helper says what it is about to repeat by a symbolic link ``.cove-pretend`` in the folder's root, whose target is JSON:
``{"token", "kind": "create|delete|move|none", "path", "to", "real": path or null, "what": "file|dir|symlink|fifo",
"over": bool}``.
The answer is the error ECANCELED when it is taken, so that the kernel remembers no such link. Changes of a file's contents
and attributes need no such words.

What a container has open for writing is refused (EBUSY), and so is another size than a file has now (ESTALE): the guest's kernel has pages
of it to write, which it would drop, or write by the helper's descriptor. Which size that is the helper asks by statvfs(3), whose answer
no kernel caches: its blocks.
"""

from __future__ import annotations

import errno
import hmac
import json
import os
import stat
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cove.share.ninep import wire
from cove.share.ninep.fids import Fid
from cove.share.ninep.looks import Look
from cove.share.ninep.wire import MalformedError, T

if TYPE_CHECKING:
    from cove.share.ninep.folder import Folder
    from cove.share.ninep.session import Answer, Session
    from cove.share.ninep.tree import Node

PRETENDER_UID = 0xC07E0001
ARMING = b".cove-pretend"
_MAX_WORDS = 4095
_MODES = {
    "file": stat.S_IFREG | 0o644,
    "dir": stat.S_IFDIR | 0o755,
    "symlink": stat.S_IFLNK | 0o777,
    "fifo": stat.S_IFIFO | 0o644,
}
_GHOSTS = 0xFFFF << 48
"""Inode numbers of what is not there."""
_NOWHERE = 0xFFFFFFFF

Path = tuple[bytes, ...]


@dataclass(slots=True)
class Pretence:
    serial: int
    kind: str
    path: Path
    to: Path
    real: Path | None
    """Where the file is on the host now."""
    mode: int
    over: bool
    """There was something at `to`."""
    done: bool = False

    def is_below(self, path: Path) -> bool:
        """Whether what it is about lies below a directory."""
        return any(path == each[: len(path)] and len(path) < len(each) for each in (self.path, self.to))


class Pretences:
    """At most one at a time, for the helper takes one step after the other. `token`: who knows it may pretend."""

    def __init__(self, folder: Folder) -> None:
        self.token: str | None = None
        self._folder = folder
        self._now: Pretence | None = None
        self._serial = 0

    def reset(self) -> None:
        self._now = None

    def answer(self, session: Session, kind: int, fid: Fid, body: memoryview) -> Answer | None:
        """What the helper is answered; None for what is answered to it as to all others. Raises `OSError`."""
        if kind == T.WALK:
            return self._walk(session, fid, body)
        if kind == T.GETATTR:
            return self._getattr(session, fid)
        if kind == T.SETATTR:
            return self._setattr(session, fid, body)
        if kind == T.STATFS:
            return self._statfs(fid)
        if kind == T.LOPEN:
            return self._lopen(session, fid, body)
        if kind == T.READ and fid.pretended:
            return wire.U32.pack(0)
        if kind == T.FSYNC and fid.pretended:
            return b""
        if kind == T.XATTRWALK:
            raise OSError(errno.EOPNOTSUPP, "pretended")
        if kind in (T.LCREATE, T.MKDIR, T.SYMLINK, T.MKNOD, T.LINK):
            return self._create(session, kind, fid, body)
        if kind == T.UNLINKAT:
            name, _ = wire.name(body, 4)
            return self._deleted(_below(fid, name))
        if kind == T.RENAMEAT:
            name, offset = wire.name(body, 4)
            new, _ = wire.name(body, offset + 4)
            return self._moved(session, fid, name, wire.U32.unpack_from(body, offset)[0], new)
        if kind == T.WRITE and fid.pretended and (answer := session.write_elsewhere(fid, body)) is not None:
            return answer
        if kind in wire.CHANGES:
            raise OSError(errno.EPERM, "the pretender changes nothing")
        return None

    # Looking.

    def _walk(self, session: Session, fid: Fid, body: memoryview) -> bytes:
        number, new, count = struct.unpack_from("<IIH", body)
        if count > wire.MAX_WALK or new == number:
            raise MalformedError
        offset, node, file, is_dir, ghost = 10, fid.node, fid.file, fid.is_dir, fid.ghost
        qids: list[bytes] = []
        path = tuple(node.path()) if count else ()
        for _ in range(count):
            name, offset = wire.name(body, offset)
            path = (*path, name)
            try:
                look, serial = self._find(path)
            except OSError:
                if not qids:
                    raise
                return wire.U16.pack(len(qids)) + b"".join(qids)
            node = session.folder.tree.child(node, name)
            file, is_dir, ghost = self._folder.number(look), look.is_dir, (serial, look) if serial else None
            qids.append(session.qid(look))
        walked = Fid(node, file, fid.uid, is_dir=is_dir, pretender=True)
        walked.ghost = ghost
        session.add(new, walked)
        return wire.U16.pack(len(qids)) + b"".join(qids)

    def _find(self, path: Path) -> tuple[Look, int]:
        """What the helper is to find at a path, and by which pretence."""
        now = self._now
        if path == (ARMING,):
            raise FileNotFoundError(errno.ENOENT, "never there")
        if now is None:
            return self._look(path), 0
        if path == now.path:
            if now.kind == "delete":
                return self._ghost_until(now, done=False), now.serial
            if now.kind == "move":
                if now.done:
                    raise FileNotFoundError(errno.ENOENT, "moved")
                return self._real(now), now.serial
            if not now.done:
                raise FileNotFoundError(errno.ENOENT, "not yet")
            return self._real(now), now.serial
        if now.kind == "move" and path == now.to:
            if now.done:
                return self._real(now), now.serial
            if not now.over:
                raise FileNotFoundError(errno.ENOENT, "not yet")
            return self._ghost(now), now.serial
        try:
            return self._look(path), 0
        except (FileNotFoundError, NotADirectoryError):
            if not now.is_below(path):
                raise
            return self._ghost(now, stat.S_IFDIR | 0o755, len(path)), now.serial

    def _ghost_until(self, now: Pretence, *, done: bool) -> Look:
        if now.done is not done:
            raise FileNotFoundError(errno.ENOENT, "gone")
        return self._ghost(now)

    def _real(self, now: Pretence) -> Look:
        if now.real is not None:
            try:
                return self._look(now.real)
            except FileNotFoundError:
                pass  # gone, meanwhile
        return self._ghost(now)

    @staticmethod
    def _ghost(now: Pretence, mode: int = 0, depth: int = 0) -> Look:
        """Something that is not there; `depth` tells the directories above it apart."""
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        ino = _GHOSTS | ((now.serial << 12 | depth & 0xFFF) & 0xFFFFFFFFFFFF)
        return Look(4096, 1, mode or now.mode, ino, 0, 0, *(seconds, nanoseconds) * 4, _NOWHERE, _NOWHERE)

    def _look(self, path: Path) -> Look:
        return self._folder.look(self._node(path))

    def _node(self, path: Path) -> Node:
        tree = self._folder.tree
        node = tree.root
        for name in path:
            node = tree.child(node, name)
        return node

    def _getattr(self, session: Session, fid: Fid) -> bytes | None:
        now = self._now
        if now is None:
            return None
        if fid.ghost is not None and fid.ghost[0] == now.serial:
            return session.attributes(fid.ghost[1], session.owner(fid.node, fid.ghost[1]))
        path = tuple(fid.node.path())
        if now.kind == "create" and not now.done and path == now.path:
            raise FileNotFoundError(errno.ENOENT, "not yet")
        if not now.is_below(path):
            return None
        look, _ = self._find(path)  # a directory that is gone, perhaps
        return session.attributes(look, session.owner(fid.node, look))

    def _statfs(self, fid: Fid) -> bytes:
        look = fid.ghost[1] if fid.ghost is not None else self._folder.look(fid.node)
        return wire.STATFS.pack(wire.V9FS_MAGIC, 1, look.size, 0, 0, 0, 0, 0, wire.MAX_NAME)

    # What is said to have been done.

    def _setattr(self, session: Session, fid: Fid, body: memoryview) -> bytes:
        valid, _, _, _, size, *_ = wire.SETATTR.unpack_from(body, 4)
        if valid & wire.SET_SIZE and fid.ghost is None:
            look = self._folder.look(fid.node)
            session.refuse_if_written(fid.file)
            session.refuse_if_written(self._folder.number(look))
            if size != look.size:
                raise OSError(errno.ESTALE, "it has another size")
        return b""

    def _is_free(self, session: Session, now: Pretence) -> None:
        """Raises `OSError` (EBUSY) when the file that comes to be is being written by a container, as when it has made it itself.

        So it is with one that comes to another place, where a container was faster: the kernel would have another inode there then. Who has
        had it open before goes along.
        """
        if now.kind == "delete" or now.real is None:
            return
        try:
            file = self._folder.number(self._look(now.real))
        except (FileNotFoundError, NotADirectoryError):
            return
        if now.kind == "create" or any(fid.writable and fid.file == file for fid in self._node(now.to).open or ()):
            session.refuse_if_written(file)

    def _lopen(self, session: Session, fid: Fid, body: memoryview) -> bytes | None:
        (flags,) = wire.U32.unpack_from(body, 4)
        if fid.is_open:
            raise OSError(errno.EBADF, "open")
        if not flags & (wire.O_ACCMODE | wire.O_TRUNC) and fid.ghost is None:
            return None
        look = fid.ghost[1] if fid.ghost is not None else self._folder.look(fid.node)
        if fid.ghost is None:
            session.refuse_if_written(self._folder.number(look))
        fid.pretended = True
        return session.qid(look) + wire.U32.pack(0)

    def _create(self, session: Session, kind: int, fid: Fid, body: memoryview) -> bytes:
        name, offset = wire.name(body, 8 if kind == T.LINK else 4)
        if kind == T.SYMLINK and name == ARMING and fid.node is session.folder.tree.root:
            self._arm(session, wire.string(body, offset)[0])
            raise OSError(errno.ECANCELED, "agreed")
        now = self._now
        if now is None or now.kind != "create" or now.done or _below(fid, name) != now.path:
            raise OSError(errno.EPERM, "the pretender changes nothing")
        self._is_free(session, now)
        now.done = True
        look = self._real(now)
        if kind != T.LCREATE:
            return b"" if kind == T.LINK else session.qid(look)
        tree = session.folder.tree
        parent = fid.node
        fid.node = tree.child(parent, name)
        tree.hold(fid.node)
        tree.release(parent)
        fid.file, fid.is_dir, fid.ghost, fid.pretended = self._folder.number(look), False, (now.serial, look), True
        return session.qid(look) + wire.U32.pack(0)

    def _deleted(self, path: Path) -> bytes:
        now = self._now
        if now is None or now.kind != "delete" or now.done or path != now.path:
            raise OSError(errno.EPERM, "the pretender changes nothing")
        now.done = True
        return b""

    def _moved(self, session: Session, fid: Fid, name: bytes, number: int, new: bytes) -> bytes:
        now = self._now
        to = session.fids.get(number)
        if to is None or not to.pretender:
            raise OSError(errno.EBADF, "no such fid")
        if now is None or now.kind != "move" or now.done or (_below(fid, name), _below(to, new)) != (now.path, now.to):
            raise OSError(errno.EPERM, "the pretender changes nothing")
        self._is_free(session, now)
        now.done = True
        session.move_fids(fid.node, name, to.node, new)
        return b""

    def _arm(self, session: Session, words: bytes) -> None:
        """Take what the helper is about to repeat. Raises `OSError` (EPERM, EBUSY)."""
        try:
            if len(words) > _MAX_WORDS:
                raise ValueError
            said = json.loads(words.decode("ascii"))
            token, kind = said["token"], said["kind"]
            if (
                self.token is None
                or not isinstance(token, str)
                or not hmac.compare_digest(token.encode(), self.token.encode())
            ):
                raise ValueError
            if kind == "none":
                self._now = None
                return
            if kind not in ("create", "delete", "move"):
                raise ValueError
            real = said.get("real")
            self._now = None
            self._serial += 1
            now = Pretence(
                self._serial, kind, _path(said["path"]), _path(said["to"]) if kind == "move" else (),
                None if real is None else _path(real), _MODES[said.get("what", "file")], bool(said.get("over", False)),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise OSError(errno.EPERM, "not agreed") from error
        self._is_free(session, now)
        self._now = now


def _below(fid: Fid, name: bytes) -> Path:
    return (*fid.node.path(), name)


def _path(text: str) -> Path:
    """A path relative to the root. Raises `ValueError`."""
    names = tuple(os.fsencode(text).split(b"/"))
    if any(name in (b"", b".", b"..") or len(name) > wire.MAX_NAME or b"\0" in name for name in names):
        raise ValueError(text)
    return names
