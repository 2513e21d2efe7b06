"""A 9P2000.L client that says what it is told to, byte by byte if need be."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cove.local.sockets import Listener
from cove.share.ninep import wire
from cove.share.ninep.server import serve
from cove.share.ninep.wire import T

NONE = 0xFFFFFFFF
REMOVEDIR = 0x200
O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC = 0, 1, 2, 0o100, 0o200, 0o1000
GETATTR = struct.Struct("<QBIQIIIQQQQQQQQQQQQQQQ")


_TEXTS = {
    number: os.strerror(getattr(errno, name)) for name, number in wire.LINUX_ERRORS.items() if hasattr(errno, name)
} | {116: "Stale file handle"}  # of which Windows says nothing
"""What a system says of Linux's numbers."""


class RefusedError(Exception):
    """An Rlerror."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number) if sys.platform == "linux" else _TEXTS.get(number, str(number)))
        self.number = number


def text(value: bytes | str) -> bytes:
    value = os.fsencode(value)
    return struct.pack("<H", len(value)) + value


class Client:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.settimeout(20)
        self._stream = connection.makefile("rb")
        self._next = 1

    # Bytes.

    def send(self, kind: int, tag: int, body: bytes) -> None:
        self.connection.sendall(struct.pack("<IBH", 7 + len(body), kind, tag) + body)

    def receive(self) -> tuple[int, int, bytes]:
        """Type, tag and body. Raises `EOFError`."""
        header = self._stream.read(7)
        if len(header) < 7:
            raise EOFError
        size, kind, tag = struct.unpack("<IBH", header)
        return kind, tag, self._stream.read(size - 7)

    def ask(self, kind: int, body: bytes, tag: int = 1) -> bytes:
        self.send(kind, tag, body)
        got, back, answer = self.receive()
        assert back == tag
        if got == 7:
            raise RefusedError(struct.unpack("<I", answer)[0])
        assert got == kind + 1
        return answer

    # Requests.

    def version(self, msize: int = 1 << 20, version: str = "9P2000.L") -> tuple[int, bytes]:
        answer = self.ask(T.VERSION, struct.pack("<I", msize) + text(version), tag=0xFFFF)
        return struct.unpack_from("<I", answer)[0], answer[6:]

    def attach(self, fid: int = 0, uid: int = 0) -> int:
        self.ask(T.ATTACH, struct.pack("<II", fid, NONE) + text("") + text("") + struct.pack("<I", uid))
        self._next = max(self._next, fid + 1)
        return fid

    def walk(self, path: str | bytes = "", fid: int = 0) -> int:
        """A new fid for a path below a fid; all of it must be there."""
        names = [name for name in os.fsencode(path).split(b"/") if name]
        new = self._next
        self._next += 1
        body = struct.pack("<IIH", fid, new, len(names)) + b"".join(map(text, names))
        answer = self.ask(T.WALK, body)
        if struct.unpack_from("<H", answer)[0] != len(names):
            raise RefusedError(2)
        return new

    def open(self, path: str | bytes, flags: int = O_RDONLY) -> int:
        fid = self.walk(path)
        self.lopen(fid, flags)
        return fid

    def lopen(self, fid: int, flags: int = O_RDONLY) -> None:
        self.ask(T.LOPEN, struct.pack("<II", fid, flags))

    def create(self, name: str | bytes, flags: int = O_RDWR, mode: int = 0o644, parent: int = 0, gid: int = 0) -> int:
        fid = self.walk(fid=parent)
        self.ask(T.LCREATE, struct.pack("<I", fid) + text(name) + struct.pack("<III", flags | O_CREAT, mode, gid))
        return fid

    def read(self, fid: int, offset: int = 0, count: int = 1 << 16) -> bytes:
        return self.ask(T.READ, struct.pack("<IQI", fid, offset, count))[4:]

    def write(self, fid: int, data: bytes, offset: int = 0) -> int:
        return int(struct.unpack("<I", self.ask(T.WRITE, struct.pack("<IQI", fid, offset, len(data)) + data))[0])

    def clunk(self, fid: int) -> None:
        self.ask(T.CLUNK, struct.pack("<I", fid))

    def getattr(self, fid: int) -> dict[str, int]:
        answer = GETATTR.unpack(self.ask(T.GETATTR, struct.pack("<IQ", fid, 0x3FFF)))
        names = "valid type version path mode uid gid nlink rdev size blksize blocks atime atime_ns mtime mtime_ns"
        return dict(zip(names.split(), answer, strict=False))

    def setattr(
        self, fid: int, valid: int, mode: int = 0, uid: int = 0, gid: int = 0, size: int = 0, mtime: int = 0
    ) -> None:
        self.ask(T.SETATTR, struct.pack("<IIIIIQQQQQ", fid, valid, mode, uid, gid, size, 0, 0, mtime, 0))

    def readdir(self, fid: int, offset: int = 0, count: int = 8192) -> list[tuple[bytes, int, int, int]]:
        """Names, types, inode numbers, and where to go on."""
        data = self.ask(T.READDIR, struct.pack("<IQI", fid, offset, count))[4:]
        entries = []
        place = 0
        while place < len(data):
            _, _, ino, after, kind, length = struct.unpack_from("<BIQQBH", data, place)
            entries.append((data[place + 24 : place + 24 + length], kind, ino, after))
            place += 24 + length
        return entries

    def names(self, path: str | bytes = "") -> set[bytes]:
        fid = self.open(path)
        found: set[bytes] = set()
        offset = 0
        while entries := self.readdir(fid, offset):
            found |= {entry[0] for entry in entries}
            offset = entries[-1][3]
        self.clunk(fid)
        return found - {b".", b".."}

    def mkdir(self, name: str | bytes, parent: int = 0, mode: int = 0o755) -> None:
        self.ask(T.MKDIR, struct.pack("<I", parent) + text(name) + struct.pack("<II", mode, 0))

    def symlink(self, name: str | bytes, target: str | bytes, parent: int = 0) -> None:
        self.ask(T.SYMLINK, struct.pack("<I", parent) + text(name) + text(target) + struct.pack("<I", 0))

    def mknod(self, name: str | bytes, mode: int, parent: int = 0, device: tuple[int, int] = (0, 0)) -> None:
        self.ask(T.MKNOD, struct.pack("<I", parent) + text(name) + struct.pack("<IIII", mode, *device, 0))

    def link(self, fid: int, name: str | bytes, parent: int = 0) -> None:
        self.ask(T.LINK, struct.pack("<II", parent, fid) + text(name))

    def rename(self, old: str | bytes, new: str | bytes, parent: int = 0, to: int = 0) -> None:
        self.ask(T.RENAMEAT, struct.pack("<I", parent) + text(old) + struct.pack("<I", to) + text(new))

    def unlink(self, name: str | bytes, parent: int = 0, flags: int = 0) -> None:
        self.ask(T.UNLINKAT, struct.pack("<I", parent) + text(name) + struct.pack("<I", flags))

    def readlink(self, path: str | bytes) -> bytes:
        return self.ask(T.READLINK, struct.pack("<I", self.walk(path)))[2:]

    def get_xattr(self, path: str | bytes, name: str) -> bytes:
        new = self._next
        self._next += 1
        size = struct.unpack("<Q", self.ask(T.XATTRWALK, struct.pack("<II", self.walk(path), new) + text(name)))[0]
        value = self.read(new, 0, size)
        self.clunk(new)
        return value

    def set_xattr(self, path: str | bytes, name: str, value: bytes, flags: int = 0) -> None:
        fid = self.walk(path)
        self.ask(T.XATTRCREATE, struct.pack("<I", fid) + text(name) + struct.pack("<QI", len(value), flags))
        if value:
            self.write(fid, value)
        self.clunk(fid)


@contextmanager
def serving(
    root: Path, *, read_only: bool = False, control: Listener | None = None, owner: tuple[int, int] = (0, 0)
) -> Iterator[socket.socket]:
    """A connection to a server of a folder, in a thread of this process."""
    ours, theirs = socket.socketpair()
    before = os.umask(0)
    how = {"read_only": read_only, "control": control, "owner": owner}
    thread = threading.Thread(target=serve, args=(theirs, root), kwargs=how, daemon=True)
    thread.start()
    try:
        yield ours
    finally:
        ours.shutdown(socket.SHUT_RDWR)
        ours.close()
        thread.join(20)
        theirs.close()
        os.umask(before)
    assert not thread.is_alive()


@contextmanager
def connected(
    root: Path,
    *,
    read_only: bool = False,
    uid: int = 0,
    control: Listener | None = None,
    owner: tuple[int, int] = (0, 0),
) -> Iterator[Client]:
    """A client that has attached as fid 0."""
    with serving(root, read_only=read_only, control=control, owner=owner) as connection:
        client = Client(connection)
        client.version()
        client.attach(uid=uid)
        yield client
