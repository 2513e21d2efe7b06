"""An NFS 3 server in one process, as much of it as Linux's client needs to work with files (RFC 1813, RFC 5531): Debian's are
the kernel's own, or large. It is sent to the engine's machine as it is, so it imports nothing of the tests.

    python3 nfs_server.py FOLDER PORT     serves FOLDER, MOUNT and NFS on one TCP port of 127.0.0.1; prints a line when it does
"""

from __future__ import annotations

import os
import socketserver
import stat
import struct
import sys
from collections.abc import Callable

MOUNT, NFS = 100005, 100003
_IO_SIZE = 65536
_VERIFIER = b"covetest"
_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFBLK: 3,
    stat.S_IFCHR: 4,
    stat.S_IFLNK: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFIFO: 7,
}


def u32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def u64(*values: int) -> bytes:
    return struct.pack(f">{len(values)}Q", *values)


def opaque(data: bytes) -> bytes:
    return u32(len(data)) + data + bytes(-len(data) % 4)


class Arguments:
    """XDR, read from front to back (RFC 4506)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def u32(self) -> int:
        self._at += 4
        return int(struct.unpack_from(">I", self._data, self._at - 4)[0])

    def u64(self) -> int:
        return self.u32() << 32 | self.u32()

    def opaque(self) -> bytes:
        size = self.u32()
        data = self._data[self._at : self._at + size]
        self._at += size + -size % 4
        return data

    def attributes(self) -> dict[str, int]:
        """sattr3: what is to be set."""
        found = {}
        for name in ("mode", "uid", "gid"):
            if self.u32():
                found[name] = self.u32()
        if self.u32():
            found["size"] = self.u64()
        for _ in ("atime", "mtime"):
            if self.u32() == 2:
                self.u64()
        return found


class Exported:
    """The folder, and the handles that clients have of what is in it: numbers of inodes."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._paths: dict[bytes, str] = {}

    def handle(self, path: str) -> bytes:
        made = u64(os.lstat(path).st_ino)
        self._paths[made] = path
        return made

    def path(self, handle: bytes) -> str:
        return self._paths[handle]

    def attributes(self, path: str) -> bytes:
        found = os.lstat(path)
        times = [
            part for one in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns) for part in divmod(one, 10**9)
        ]
        return (
            u32(_TYPES[stat.S_IFMT(found.st_mode)], stat.S_IMODE(found.st_mode), found.st_nlink, found.st_uid, found.st_gid)
            + u64(found.st_size, found.st_blocks * 512) + u32(os.major(found.st_rdev), os.minor(found.st_rdev))
            + u64(1, found.st_ino) + u32(*times)
        )  # fmt: skip

    def after(self, path: str) -> bytes:
        """post_op_attr"""
        return u32(1) + self.attributes(path) if os.path.lexists(path) else u32(0)

    def changed(self, path: str) -> bytes:
        """wcc_data, of which what was before is left out."""
        return u32(0) + self.after(path)

    # -- procedures, by their numbers

    def answer(self, program: int, procedure: int, given: Arguments) -> bytes:
        if procedure == 0:
            return b""
        if program == MOUNT:
            given.opaque()
            return u32(0) + opaque(self.handle(self.root)) + u32(1, 1) if procedure == 1 else b""
        path = self.path(given.opaque())
        known: dict[int, Callable[[str, Arguments], bytes]] = {
            1: lambda path, given: u32(0) + self.attributes(path),
            2: self.set_attributes, 3: self.look_up, 4: self.access, 6: self.read, 7: self.write, 8: self.create, 9: self.create_folder,
            12: self.remove, 13: self.remove, 14: self.rename, 16: self.list, 17: self.list_more, 18: self.room, 19: self.limits,
            20: lambda path, given: u32(0) + self.after(path) + u32(32000, 255, 1, 1, 0, 1),
            21: lambda path, given: u32(0) + self.changed(path) + _VERIFIER,
        }  # fmt: skip
        if procedure not in known:
            return u32(10004)  # NFS3ERR_NOTSUPP
        try:
            return known[procedure](path, given)
        except OSError as error:
            # Numbers of errors are Linux's, as far as they are needed; after each come attributes that are left out.
            return u32(error.errno or 5, 0, 0, 0, 0)

    def set_attributes(self, path: str, given: Arguments) -> bytes:
        wanted = given.attributes()
        if "mode" in wanted:
            os.chmod(path, wanted["mode"])
        os.chown(path, wanted.get("uid", -1), wanted.get("gid", -1), follow_symlinks=False)
        if "size" in wanted:
            os.truncate(path, wanted["size"])
        return u32(0) + self.changed(path)

    def look_up(self, path: str, given: Arguments) -> bytes:
        child = os.path.join(path, os.fsdecode(given.opaque()))
        return u32(0) + opaque(self.handle(child)) + self.after(child) + self.after(path)

    def access(self, path: str, given: Arguments) -> bytes:
        return u32(0) + self.after(path) + u32(given.u32())

    def read(self, path: str, given: Arguments) -> bytes:
        offset, count = given.u64(), given.u32()
        with open(path, "rb") as file:
            data = os.pread(file.fileno(), min(count, _IO_SIZE), offset)
        ended = offset + len(data) >= os.path.getsize(path)
        return u32(0) + self.after(path) + u32(len(data), ended) + opaque(data)

    def write(self, path: str, given: Arguments) -> bytes:
        offset, _, stable, data = given.u64(), given.u32(), given.u32(), given.opaque()
        with open(path, "r+b") as file:
            os.pwrite(file.fileno(), data, offset)
        return u32(0) + self.changed(path) + u32(len(data), stable) + _VERIFIER

    def create(self, path: str, given: Arguments) -> bytes:
        child, how = os.path.join(path, os.fsdecode(given.opaque())), given.u32()
        wanted = given.attributes() if how < 2 else {}
        flags = os.O_CREAT | os.O_WRONLY | (os.O_EXCL if how else 0)
        os.close(os.open(child, flags, wanted.get("mode", 0o644)))
        return self._created(child, path)

    def create_folder(self, path: str, given: Arguments) -> bytes:
        child = os.path.join(path, os.fsdecode(given.opaque()))
        os.mkdir(child, given.attributes().get("mode", 0o755))
        return self._created(child, path)

    def _created(self, child: str, path: str) -> bytes:
        return u32(0, 1) + opaque(self.handle(child)) + self.after(child) + self.changed(path)

    def remove(self, path: str, given: Arguments) -> bytes:
        child = os.path.join(path, os.fsdecode(given.opaque()))
        (os.rmdir if os.path.isdir(child) else os.unlink)(child)
        return u32(0) + self.changed(path)

    def rename(self, path: str, given: Arguments) -> bytes:
        source = os.path.join(path, os.fsdecode(given.opaque()))
        folder = self.path(given.opaque())
        target = os.path.join(folder, os.fsdecode(given.opaque()))
        os.rename(source, target)
        self.handle(target)
        return u32(0) + self.changed(path) + self.changed(folder)

    def _entries(self, path: str, given: Arguments, *, more: bool) -> bytes:
        first = given.u64()
        made = u32(0) + self.after(path) + _VERIFIER
        names = [".", "..", *sorted(os.listdir(path))]
        for cookie, name in enumerate(names[first:], first + 1):
            child = path if name in (".", "..") else os.path.join(path, name)
            made += u32(1) + u64(os.lstat(child).st_ino) + opaque(os.fsencode(name)) + u64(cookie)
            if more:
                made += self.after(child) + u32(1) + opaque(self.handle(child))
        return made + u32(0, 1)

    def list(self, path: str, given: Arguments) -> bytes:
        return self._entries(path, given, more=False)

    def list_more(self, path: str, given: Arguments) -> bytes:
        return self._entries(path, given, more=True)

    def room(self, path: str, given: Arguments) -> bytes:
        found = os.statvfs(path)
        sizes = [count * found.f_frsize for count in (found.f_blocks, found.f_bfree, found.f_bavail)]
        return u32(0) + self.after(path) + u64(*sizes, found.f_files, found.f_ffree, found.f_favail) + u32(0)

    def limits(self, path: str, given: Arguments) -> bytes:
        sizes = u32(_IO_SIZE, _IO_SIZE, 4096, _IO_SIZE, _IO_SIZE, 4096, 4096)
        return u32(0) + self.after(path) + sizes + u64(1 << 60) + u32(0, 1, 0x1B)


class Connection(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        while True:
            record, last = b"", 0
            while not last:
                head = self.rfile.read(4)
                if len(head) < 4:
                    return
                mark = int.from_bytes(head, "big")
                last, size = mark >> 31, mark & 0x7FFFFFFF
                record += self.rfile.read(size)
            given = Arguments(record)
            call, _, _, program, _, procedure = (given.u32() for _ in range(6))
            for _ in ("credentials", "verifier"):
                given.u32()
                given.opaque()
            answer = u32(call, 1, 0, 0, 0)
            if program in (MOUNT, NFS):
                answer += u32(0) + self.server.exported.answer(program, procedure, given)
            else:
                answer += u32(1)  # PROG_UNAVAIL: of NFSACL, for instance, which clients ask for on the same port
            self.wfile.write(u32(1 << 31 | len(answer)) + answer)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, exported: Exported) -> None:
        self.exported = exported
        super().__init__(("127.0.0.1", port), Connection)


if __name__ == "__main__":
    with Server(int(sys.argv[2]), Exported(sys.argv[1])) as server:
        print("serving", flush=True)
        server.serve_forever()
