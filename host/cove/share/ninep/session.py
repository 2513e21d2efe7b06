"""What each request of 9P2000.L does. One session: from a Tversion to the next, or to the end of the connection.

A session is for one thread at a time; what may take long is handed back as `Later`, to be done beside others.
"""

from __future__ import annotations

import contextlib
import errno
import stat
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cove.share.ninep import wire, xattrs
from cove.share.ninep.fids import Fid
from cove.share.ninep.folder import DIRECTORY_MODE, FILE_MODE, Folder
from cove.share.ninep.host import host
from cove.share.ninep.listing import Listing
from cove.share.ninep.looks import Look
from cove.share.ninep.notices import Notices
from cove.share.ninep.owners import Owners
from cove.share.ninep.pretender import PRETENDER_UID, Pretences
from cove.share.ninep.tree import Node
from cove.share.ninep.versions import Versions
from cove.share.ninep.wire import MalformedError, T

MAX_FIDS = 1 << 19
"""Linux's client keeps one for each name that it remembers."""
MAX_LISTED = 256 << 20
"""Bytes of all directories' entries that are being read."""
MAX_XATTRS = 64 << 20
"""Bytes of all attributes' values that are being read or written."""
SLOW_BYTES = 1 << 16
"""Reads and writes of so many bytes let others go on meanwhile."""
_RESERVED_DESCRIPTORS = 1024


Sent = bytes | tuple[bytes, bytes]
"""An answer's bytes; the second are a file's, which are not copied once more."""


class Later(NamedTuple):
    """The rest of a request: `work` gives its answer and may raise `OSError`; `fid.done` comes after it."""

    fid: Fid
    work: Callable[[], Sent]


Answer = bytes | Later
Handler = Callable[[Fid, memoryview], Answer]


class Session:
    """`msize`: no message is larger, either way. `max_open`: files open at a time."""

    def __init__(
        self, folder: Folder, owners: Owners, pretences: Pretences, notices: Notices, *, msize: int, max_open: int
    ) -> None:
        self.fids: dict[int, Fid] = {}
        self.folder = self._folder = folder
        self._tree = folder.tree
        self._owners = owners
        self._pretences = pretences
        self._notices = notices
        self._versions = Versions()
        self._msize = msize
        self._max_open = max(64, max_open - _RESERVED_DESCRIPTORS)
        self._open = 0
        self._listed = 0
        self._xattrs = 0
        self._handlers: dict[int, Handler] = {
            T.STATFS: self._statfs, T.LOPEN: self._lopen, T.LCREATE: self._lcreate, T.SYMLINK: self._symlink, T.MKNOD: self._mknod,
            T.RENAME: self._rename, T.READLINK: self._readlink, T.GETATTR: self._getattr, T.SETATTR: self._setattr,
            T.XATTRWALK: self._xattrwalk, T.XATTRCREATE: self._xattrcreate, T.READDIR: self._readdir, T.FSYNC: self._fsync,
            T.LOCK: self._lock, T.GETLOCK: self._getlock, T.LINK: self._link, T.MKDIR: self._mkdir, T.RENAMEAT: self._renameat,
            T.UNLINKAT: self._unlinkat, T.WALK: self._walk, T.READ: self._read, T.WRITE: self._write, T.CLUNK: self._clunk,
            T.REMOVE: self._remove,
        }  # fmt: skip

    def request(self, kind: int, body: memoryview) -> Answer:
        """Do what a request says; `body` is what comes after its header. Raises `OSError`, and `MalformedError`."""
        self._tree.settle()
        if len(body) < 4:
            raise MalformedError
        if kind == T.ATTACH:
            return self._attach(body)
        if kind == T.AUTH:
            raise OSError(errno.ENOENT, "nobody has to prove who they are")
        number = int.from_bytes(body[:4], "little")
        fid = self.fids.get(number)
        if fid is None:
            raise OSError(errno.EBADF, "no such fid")
        if fid.pretender and (answer := self._pretences.answer(self, kind, fid, body)) is not None:
            return answer
        if kind in wire.CHANGES and self._folder.read_only:
            if kind == T.REMOVE:
                self._forget(number)
            raise OSError(errno.EROFS, "read-only")
        return self._handlers[kind](fid, body)

    def rest(self) -> None:
        """Hold no directory open until the next request."""
        self._tree.let_go()

    def close(self) -> None:
        for number in list(self.fids):
            self._forget(number)
        self._pretences.reset()

    # Fids.

    def add(self, number: int, fid: Fid) -> None:
        """Give a fid its number. Raises `OSError` when there are too many, or the number is another's."""
        if number == wire.NO_FID or number in self.fids:
            raise OSError(errno.EBADF, "no new fid")
        if len(self.fids) >= MAX_FIDS:
            raise OSError(errno.ENFILE, "too many fids")
        self._tree.hold(fid.node)
        self.fids[number] = fid

    def _forget(self, number: int) -> None:
        fid = self.fids.pop(number)
        if fid.listing is not None:
            self._listed -= len(fid.listing.entries)
        if fid.xattr is not None:
            self._xattrs -= fid.xattr.size
        was_open = fid.descriptor >= 0
        if host.TIMES_AT_CLOSE:
            fid.close()
        if fid.wrote:
            self._notices.tell("written", fid.node)
        if was_open:
            self._open -= 1
            if fid.writable and self._versions.end(fid.file, self._left(fid), wrote=fid.wrote):
                self._notices.tell("missed", fid.node)
        fid.close()
        self._tree.release(fid.node)

    def _left(self, fid: Fid) -> Look | None:
        """As the guest leaves a file."""
        with contextlib.suppress(OSError):
            if (descriptor := fid.descriptor) >= 0:
                return host.look_fd(descriptor)
            found = self._folder.look(fid.node)
            return found if self._folder.number(found) == fid.file else None
        return None

    def _attach(self, body: memoryview) -> bytes:
        number, _ = struct.unpack_from("<II", body)
        _, offset = wire.string(body, 8)
        _, offset = wire.string(body, offset)
        (uid,) = wire.U32.unpack_from(body, offset)
        root = self._tree.root
        look = self._folder.look(root)
        file = self._folder.number(look)
        self.add(number, Fid(root, file, uid, is_dir=True, pretender=uid == PRETENDER_UID))
        return self.qid(look)

    def _walk(self, fid: Fid, body: memoryview) -> bytes:
        number, new, count = struct.unpack_from("<IIH", body)
        if count > wire.MAX_WALK:
            raise MalformedError
        names = []
        offset = 10
        for _ in range(count):
            name, offset = wire.name(body, offset)
            names.append(name)
        node, file, is_dir = fid.node, fid.file, fid.is_dir
        qids: list[bytes] = []
        for name in names:
            try:
                look = self._folder.look_below(node, name)
            except OSError:
                if not qids:
                    raise
                return wire.U16.pack(len(qids)) + b"".join(qids)
            kind, version, file = self._qid(look)
            node, is_dir = self._tree.child(node, name), look.is_dir
            qids.append(wire.QID.pack(kind, version, file))
        walked = Fid(node, file, fid.uid, is_dir=is_dir, pretender=fid.pretender)
        if new == number:
            if fid.is_open:
                raise OSError(errno.EBUSY, "open")
            self._tree.hold(node)
            self._forget(number)
            self.add(new, walked)
            self._tree.release(node)
        else:
            self.add(new, walked)
        return wire.U16.pack(len(qids)) + b"".join(qids)

    def _clunk(self, fid: Fid, body: memoryview) -> bytes:
        number = int.from_bytes(body[:4], "little")
        xattr = fid.xattr
        self._forget(number)
        if xattr is not None and xattr.name:
            self._notices.tell("attrib", fid.node)
            xattrs.keep(self._folder, fid.node, xattr)
        return b""

    def _remove(self, fid: Fid, body: memoryview) -> bytes:
        node = fid.node
        try:
            if node.parent is None:
                raise OSError(errno.ENOENT if node.gone else errno.EBUSY, "no entry of a directory")
            self._unlink(node.parent, node.name, directory=self._folder.look(node).is_dir)
        finally:
            self._forget(int.from_bytes(body[:4], "little"))
        return b""

    # What a file is.

    def qid(self, look: Look) -> bytes:
        """What a file is for the guest's kernel, which keeps what it knows of it for as long as this stays the same."""
        return wire.QID.pack(*self._qid(look))

    def _qid(self, look: Look) -> tuple[int, int, int]:
        kind = look.mode & 0o170000
        if kind == stat.S_IFREG:
            number = self._folder.number(look)
            return wire.QTFILE, self._versions.of(number, look), number
        version = hash(look[8:10]) & 0xFFFFFFFF or 1  # 0 would keep the kernel from caching
        kind = wire.QTDIR if kind == stat.S_IFDIR else wire.QTSYMLINK if kind == stat.S_IFLNK else wire.QTFILE
        return kind, version, self._folder.number(look)

    def look(self, fid: Fid) -> Look:
        """What a fid is of now; of a file that has lost its name, as long as it is open. Raises `OSError` (ENOENT)."""
        if fid.descriptor >= 0:
            return host.look_fd(fid.descriptor)
        try:
            found = self._folder.look(fid.node)
            if self._folder.number(found) == fid.file:
                return found
        except FileNotFoundError:
            pass
        descriptor = self._elsewhere_open(fid)
        if descriptor < 0:
            raise FileNotFoundError(errno.ENOENT, "another file is there now")
        return host.look_fd(descriptor)

    @staticmethod
    def _same_open(fid: Fid, *, writable: bool) -> Fid | None:
        """One by which the same file is open at the same place."""
        for other in fid.node.open or ():
            if (other.writable or not writable) and other.file == fid.file:
                return other
        return None

    def _elsewhere_open(self, fid: Fid, *, writable: bool = False) -> int:
        """A descriptor by which the same file is open at the same place, or -1."""
        other = self._same_open(fid, writable=writable)
        return -1 if other is None else other.descriptor

    def attributes(self, look: Look, owner: tuple[int, int]) -> bytes:
        mode = look.mode
        mode &= 0o170000 | (DIRECTORY_MODE if look.is_dir else FILE_MODE)
        return wire.GETATTR.pack(
            wire.GETATTR_BASIC | wire.GETATTR_BTIME | wire.GETATTR_GEN, *self._qid(look), mode, *owner, look.nlink, 0, look.size,
            look.blksize, look.blocks, look.atime & _U64, look.atime_ns, look.mtime & _U64, look.mtime_ns, look.ctime & _U64,
            look.ctime_ns, look.btime & _U64, look.btime_ns, 0, 0,
        )  # fmt: skip

    def owner(self, node: Node, look: Look) -> tuple[int, int]:
        return self._owners.of(node, look)

    def move_fids(self, parent: Node, name: bytes, to: Node, new: bytes) -> None:
        """The host has moved a file: who has looked it up at its old place has it at the new one."""
        source = (parent.children or {}).get(name)
        target = (to.children or {}).get(new)
        if source is None or source is target:
            return
        if target is None:
            self._tree.moved(parent, name, to, new)
            return
        replaced = self._tree.merge(source, target)
        for fid in [each for each in self.fids.values() if each.node in replaced]:
            before, fid.node = fid.node, replaced[fid.node]
            self._tree.hold(fid.node)
            if before.open is not None and fid in before.open:
                before.open.discard(fid)
                fid.node.open = fid.node.open or set()
                fid.node.open.add(fid)
            self._tree.release(before)

    def _getattr(self, fid: Fid, body: memoryview) -> bytes:
        look = self.look(fid)
        return self.attributes(look, self._owners.of(fid.node, look))

    def refuse_if_written(self, file: int) -> None:
        """Raises `OSError` (EBUSY) when the guest has this file (`Folder.number`) open for writing: then its kernel knows better than
        the host what it is, and hears of what it missed when it has closed it.
        """
        if self._versions.is_being_written(file):
            self._versions.miss(file)
            raise OSError(errno.EBUSY, "a container writes to it")

    def write_elsewhere(self, fid: Fid, body: memoryview) -> Answer | None:
        """What a kernel writes by a descriptor that only pretends to be one: by another, which has the same file open."""
        other = self._same_open(fid, writable=True)
        return None if other is None else self._write(other, body)

    def _setattr(self, fid: Fid, body: memoryview) -> bytes:
        before = None
        if self._versions.knows(fid.file):
            with contextlib.suppress(OSError):  # another file has that name now
                before = self.look(fid)
        answer = self._set_attributes(fid, body)
        if before is not None:
            with contextlib.suppress(OSError):
                self._versions.changed(fid.file, before, self.look(fid))
        return answer

    def _set_attributes(self, fid: Fid, body: memoryview) -> bytes:
        valid, mode, uid, gid, size, atime, atime_ns, mtime, mtime_ns = wire.SETATTR.unpack_from(body, 4)
        node = fid.node
        descriptor = fid.descriptor if fid.descriptor >= 0 else self._elsewhere_open(fid) if node.gone else -1
        if valid & wire.SET_SIZE:
            self._notices.tell("write", node)
            writable = fid.descriptor if fid.writable else self._elsewhere_open(fid, writable=True)
            try:
                self._folder.truncate(node, size, writable)
            finally:
                if fid.writable:
                    fid.wrote = True
                else:
                    self._notices.tell("written", node)
        if valid & (wire.SET_MODE | wire.SET_UID | wire.SET_GID):
            self._notices.tell("attrib", node)
        if valid & wire.SET_MODE:
            self._folder.chmod(node, mode, descriptor)
        if valid & (wire.SET_UID | wire.SET_GID):
            look = host.look_fd(descriptor) if descriptor >= 0 else self._folder.look(node)
            self._owners.change(
                node, look, uid if valid & wire.SET_UID else None, gid if valid & wire.SET_GID else None
            )
        if valid & (wire.SET_ATIME | wire.SET_MTIME) and (not valid & wire.SET_SIZE or valid & wire.SET_MTIME_GIVEN):
            self._notices.tell("attrib", node)
            self._folder.set_times(
                node,
                _time(valid, wire.SET_ATIME, wire.SET_ATIME_GIVEN, atime, atime_ns),
                _time(valid, wire.SET_MTIME, wire.SET_MTIME_GIVEN, mtime, mtime_ns),
                descriptor,
            )
        return b""

    def _statfs(self, fid: Fid, body: memoryview) -> bytes:
        space = self._folder.space()
        return wire.STATFS.pack(
            wire.V9FS_MAGIC, space.size, space.blocks, space.free, space.available, space.files, space.files_free,
            space.number & _U64, min(space.name_max, wire.MAX_NAME),
        )  # fmt: skip

    def _readlink(self, fid: Fid, body: memoryview) -> bytes:
        target = self._folder.link_target(fid.node)
        return wire.U16.pack(len(target)) + target

    # Open files.

    def _lopen(self, fid: Fid, body: memoryview) -> bytes:
        (flags,) = wire.U32.unpack_from(body, 4)
        if fid.is_open:
            raise OSError(errno.EBADF, "open")
        access = flags & wire.O_ACCMODE
        if access == wire.O_ACCMODE:
            raise OSError(errno.EINVAL, "no such access")
        changes = access != wire.O_RDONLY or bool(flags & wire.O_TRUNC)
        if changes and self._folder.read_only:
            raise OSError(errno.EROFS, "read-only")
        if fid.is_dir:
            if changes:
                raise IsADirectoryError(errno.EISDIR, "a directory")
            look = self._folder.look(fid.node)
            self._tree.directory(fid.node)
            fid.listing = Listing()
            return self.qid(look) + _NO_IOUNIT
        if flags & wire.O_DIRECTORY:
            raise NotADirectoryError(errno.ENOTDIR, "no directory")
        self._may_open()
        before = None
        if access != wire.O_RDONLY:
            with contextlib.suppress(FileNotFoundError):  # another file has that name now
                before = self.look(fid)
        other = self._elsewhere_open(fid) if fid.node.gone else -1
        if other >= 0:
            descriptor = host.reopen(other, access)
        elif flags & wire.O_TRUNC:
            self._notices.tell("write", fid.node)
            try:
                descriptor = self._folder.open(fid.node, access, truncate=True)
            except OSError:
                self._notices.tell("written", fid.node)
                raise
        else:
            descriptor = self._folder.open(fid.node, access)
        look = self._opened(fid, descriptor, access, before)
        fid.wrote = bool(flags & wire.O_TRUNC)
        return self.qid(look) + _NO_IOUNIT

    def _lcreate(self, fid: Fid, body: memoryview) -> bytes:
        name, offset = wire.name(body, 4)
        flags, mode, gid = struct.unpack_from("<III", body, offset)
        if fid.is_open:
            raise OSError(errno.EBADF, "open")
        access = flags & wire.O_ACCMODE
        if access == wire.O_ACCMODE:
            raise OSError(errno.EINVAL, "no such access")
        self._may_open()
        parent = fid.node
        self._notices.tell("create", parent, name)
        descriptor, made = self._folder.create(
            parent, name, access, mode, exclusive=bool(flags & wire.O_EXCL), truncate=bool(flags & wire.O_TRUNC)
        )
        node = self._tree.child(parent, name)
        self._tree.hold(node)
        self._tree.release(parent)
        fid.node = node
        look = self._opened(fid, descriptor, access)
        fid.wrote = True
        if made:
            self._made(node, look, fid.uid, gid)
        return self.qid(look) + _NO_IOUNIT

    def _may_open(self) -> None:
        if self._open >= self._max_open:
            raise OSError(errno.EMFILE, "too many open files")

    def _opened(self, fid: Fid, descriptor: int, access: int, before: Look | None = None) -> Look:
        """`before`: what was there until then."""
        try:
            look = host.look_fd(descriptor)
        except OSError:
            host.close(descriptor)
            raise
        fid.opened(descriptor, writable=access != wire.O_RDONLY)
        self._open += 1
        fid.file, fid.is_dir = self._folder.number(look), False
        if fid.writable:
            self._versions.begin(fid.file, before if before is not None and before.same_file(look) else look)
        return look

    def _made(self, node: Node, look: Look, uid: int, gid: int) -> None:
        """What a container makes is its user's, in a container's eyes. Of root it is the folder's owner's, as on this computer: it needs no
        note, and a note costs a look at each file from then on."""
        self._owners.forget(look)
        default = self._owners.default
        owner = (default[0] if uid in (0, wire.NO_FID) else uid, default[1] if gid == 0 else gid)
        if owner != self._owners.default:
            self._owners.change(node, look, *owner)

    def _read(self, fid: Fid, body: memoryview) -> Answer:
        offset, count = struct.unpack_from("<QI", body, 4)
        count = min(count, self._msize - wire.READ_OVERHEAD)
        descriptor = fid.descriptor
        if descriptor < 0:
            if fid.xattr is None or fid.xattr.name:
                raise OSError(errno.EISDIR if fid.listing is not None else errno.EBADF, "not open for reading")
            data = bytes(fid.xattr.value[offset : offset + count])
            return wire.U32.pack(len(data)) + data
        if count < SLOW_BYTES:
            data = host.read(descriptor, count, offset)
            return wire.U32.pack(len(data)) + data
        fid.start()
        return Later(fid, lambda: _counted(host.read(descriptor, count, offset)))

    def _write(self, fid: Fid, body: memoryview) -> Answer:
        offset, count = struct.unpack_from("<QI", body, 4)
        if len(body) < 16 + count:
            raise MalformedError
        data = body[16 : 16 + count]
        descriptor = fid.descriptor
        if descriptor < 0:
            if fid.xattr is None:
                raise OSError(errno.EBADF, "not open for writing")
            return wire.U32.pack(fid.xattr.write(offset, data))
        if fid.told != self._notices.listeners:
            fid.told = self._notices.listeners
            self._notices.tell("write", fid.node)
        fid.wrote = True
        if count < SLOW_BYTES and not host.fills(descriptor, offset):
            return wire.U32.pack(host.write(descriptor, data, offset))
        fid.start()
        return Later(fid, lambda: wire.U32.pack(host.write(descriptor, data, offset)))

    def _fsync(self, fid: Fid, body: memoryview) -> Answer:
        descriptor = fid.descriptor
        only_data = len(body) >= 8 and bool(wire.U32.unpack_from(body, 4)[0])
        if descriptor < 0:
            if not fid.is_open:
                raise OSError(errno.EBADF, "not open")
            if fid.listing is not None:
                host.sync_directory(self._tree.directory(fid.node))
            return b""
        fid.start()

        def work() -> bytes:
            host.sync(descriptor, only_data=only_data)
            return b""

        return Later(fid, work)

    def _lock(self, fid: Fid, body: memoryview) -> bytes:
        return b"\0"  # granted: the guest's kernel has seen to it that its processes do not hold the same

    def _getlock(self, fid: Fid, body: memoryview) -> bytes:
        _, start, length, process = struct.unpack_from("<BQQI", body, 4)
        client, _ = wire.string(body, 25)
        return struct.pack("<BQQIH", 2, start, length, process, len(client)) + client  # 2: nobody has locked it

    # Directories.

    def _readdir(self, fid: Fid, body: memoryview) -> bytes:
        offset, count = struct.unpack_from("<QI", body, 4)
        count = min(count, self._msize - wire.READ_OVERHEAD)
        listing = fid.listing
        if listing is None:
            raise OSError(errno.EBADF, "no open directory")
        if offset == 0 or not listing.read:
            self._list(fid, listing)
        data = listing.part(offset, count)
        return wire.U32.pack(len(data)) + data

    def _list(self, fid: Fid, listing: Listing) -> None:
        before = len(listing.entries)
        listing.fill(self._folder, fid.node, self.look(fid))
        self._listed += len(listing.entries) - before
        if self._listed > MAX_LISTED:
            self._listed -= len(listing.entries)
            listing.clear()
            raise OSError(errno.ENOMEM, "too many directories are being read")

    def _mkdir(self, fid: Fid, body: memoryview) -> bytes:
        name, offset = wire.name(body, 4)
        mode, gid = struct.unpack_from("<II", body, offset)
        self._notices.tell("create", fid.node, name)
        self._folder.make_directory(fid.node, name, mode)
        return self._made_entry(fid, name, gid)

    def _symlink(self, fid: Fid, body: memoryview) -> bytes:
        name, offset = wire.name(body, 4)
        target, offset = wire.string(body, offset)
        (gid,) = wire.U32.unpack_from(body, offset)
        if len(target) > wire.MAX_TARGET:
            raise OSError(errno.ENAMETOOLONG, "too long a target")
        self._notices.tell("create", fid.node, name)
        self._folder.make_link(fid.node, name, target)
        return self._made_entry(fid, name, gid)

    def _mknod(self, fid: Fid, body: memoryview) -> bytes:
        name, offset = wire.name(body, 4)
        mode, _, _, gid = struct.unpack_from("<IIII", body, offset)
        self._notices.tell("create", fid.node, name)
        self._folder.make_special(fid.node, name, mode)
        return self._made_entry(fid, name, gid)

    def _made_entry(self, fid: Fid, name: bytes, gid: int) -> bytes:
        look = self._folder.look_below(fid.node, name)
        self._made(self._tree.child(fid.node, name), look, fid.uid, gid)
        return self.qid(look)

    def _link(self, fid: Fid, body: memoryview) -> bytes:
        (number,) = wire.U32.unpack_from(body, 4)
        name, _ = wire.name(body, 8)
        source = self._other(number, fid)
        self._notices.tell("create", fid.node, name)
        with self._keeping_version(source.node, fid.node, name):
            self._folder.make_hard_link(source.node, fid.node, name)
        return b""

    def _rename(self, fid: Fid, body: memoryview) -> bytes:
        (number,) = wire.U32.unpack_from(body, 4)
        name, _ = wire.name(body, 8)
        to = self._other(number, fid).node
        node = fid.node
        if node.parent is None:
            raise OSError(errno.ENOENT if node.gone else errno.EBUSY, "no entry of a directory")
        self._move(node.parent, node.name, to, name)
        return b""

    def _renameat(self, fid: Fid, body: memoryview) -> bytes:
        name, offset = wire.name(body, 4)
        (number,) = wire.U32.unpack_from(body, offset)
        new, _ = wire.name(body, offset + 4)
        self._move(fid.node, name, self._other(number, fid).node, new)
        return b""

    def _move(self, parent: Node, name: bytes, to: Node, new: bytes) -> None:
        self._notices.tell("move", parent, name, to, new)
        with self._keeping_version(self._tree.child(parent, name), to, new):
            self._folder.rename(parent, name, to, new)

    @contextlib.contextmanager
    def _keeping_version(self, node: Node, to: Node, new: bytes) -> Iterator[None]:
        """While a file gets another name. It stays what it is for the guest's kernel, which may have an inode of it by the one before."""
        before = None
        with contextlib.suppress(OSError):  # which tells whoever renames it
            before = self._folder.look(node)
        yield
        if before is not None and before.is_file:
            with contextlib.suppress(OSError):
                after = self._folder.look_below(to, new)
                if after.same_file(before) and _contents(after) == _contents(before):
                    self._versions.changed(self._folder.number(after), before, after)

    def _other(self, number: int, fid: Fid) -> Fid:
        """The second fid of a request. Raises `OSError`."""
        other = self.fids.get(number)
        if other is None or other.pretender != fid.pretender:
            raise OSError(errno.EBADF, "no such fid")
        return other

    def _unlinkat(self, fid: Fid, body: memoryview) -> bytes:
        name, offset = wire.name(body, 4)
        (flags,) = wire.U32.unpack_from(body, offset)
        self._unlink(fid.node, name, directory=bool(flags & wire.AT_REMOVEDIR))
        return b""

    def _unlink(self, parent: Node, name: bytes, *, directory: bool) -> None:
        self._notices.tell("delete", parent, name)
        if directory:
            self._folder.remove_directory(parent, name)
        else:
            self._folder.unlink(parent, name)

    # Extended attributes.

    def _xattrwalk(self, fid: Fid, body: memoryview) -> bytes:
        (new,) = wire.U32.unpack_from(body, 4)
        name, _ = wire.string(body, 8)
        walked = Fid(fid.node, fid.file, fid.uid, is_dir=fid.is_dir, pretender=fid.pretender)
        walked.xattr = xattrs.found(self._folder, fid.node, name)
        self._spend(walked.xattr.size)
        self.add(new, walked)
        self._xattrs += walked.xattr.size
        return wire.U64.pack(walked.xattr.size)

    def _xattrcreate(self, fid: Fid, body: memoryview) -> bytes:
        name, offset = wire.string(body, 4)
        size, flags = struct.unpack_from("<QI", body, offset)
        if fid.is_open:
            raise OSError(errno.EBADF, "open")
        xattr = xattrs.announced(name, size, flags)
        self._spend(size)
        fid.xattr = xattr
        self._xattrs += size
        return b""

    def _spend(self, size: int) -> None:
        """Raises `OSError` when there is no room for so many bytes of attributes."""
        if self._xattrs + size > MAX_XATTRS:
            raise OSError(errno.ENOMEM, "too many attributes at a time")


_U64 = 0xFFFFFFFFFFFFFFFF
_NO_IOUNIT = wire.U32.pack(0)


def _contents(look: Look) -> tuple[int, ...]:
    """What changes with them."""
    return look.size, look.mtime, look.mtime_ns


def _counted(data: bytes) -> tuple[bytes, bytes]:
    return wire.U32.pack(len(data)), data


def _time(valid: int, asked: int, given: int, seconds: int, nanoseconds: int) -> int | None:
    if not valid & asked:
        return None
    return seconds * 10**9 + nanoseconds if valid & given else -1
