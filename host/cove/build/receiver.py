"""Takes the results of a build that are files of the user's: a folder, or an archive (moby.filesync.v1.FileSend).

Whoever sends is not trusted with more than the folder that was named: nothing is written through symbolic links.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat as st
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from coved.buildkit import filemode
from coved.buildkit.messages import (
    PACKET_DATA,
    PACKET_ERR,
    PACKET_FIN,
    PACKET_REQ,
    PACKET_STAT,
    BytesMessage,
    Packet,
    Stat,
)
from coved.grpc.call import Call
from coved.grpc.codec import Message
from coved.grpc.status import Code, GrpcError

MOST_OPEN = 64
"""Files whose contents may come at the same time."""


@dataclass
class Raw(Message):
    """A message of either kind: which one depends on the output that the call is for."""

    data: bytes = b""

    def encode(self) -> bytes:
        return self.data

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview) -> Raw:
        return cls(bytes(data))


class Refused(ValueError):
    """What is sent cannot be taken."""


class Folder:
    """Receives a folder into `root`, which is made when it is missing. What is there already stays."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._count = 0
        """Of what was told of so far."""
        self._regular: set[str] = set()
        self._last: tuple[str, ...] = ()
        self._folders: list[Stat] = []
        self._wanted: dict[int, Stat] = {}
        self._open: dict[int, BinaryIO] = {}

    async def receive(self, call: Call[Raw, Raw]) -> None:
        """Raises `GrpcError`."""
        ended = False
        with ExitStack() as files:
            files.callback(self._close)
            try:
                self._root.mkdir(0o700, parents=True, exist_ok=True)
                while (message := await call.receive()) is not None:
                    packet = Packet.decode(message.data)
                    if packet.type == PACKET_STAT and packet.stat is not None:
                        number, self._count = self._count, self._count + 1
                        if self._take(packet.stat):
                            self._wanted[number] = packet.stat
                            await call.send(Raw(Packet(PACKET_REQ, id=number).encode()))
                    elif packet.type == PACKET_STAT:
                        ended = True
                    elif packet.type == PACKET_DATA:
                        self._data(packet)
                    elif packet.type == PACKET_FIN:
                        break
                    elif packet.type == PACKET_ERR:
                        raise Refused(f"error from sender: {packet.data.decode(errors='replace')}")
                    if ended and not self._wanted:
                        ended = False  # once
                        self._finish()
                        await call.send(Raw(Packet(PACKET_FIN).encode()))
            except (Refused, OSError, ValueError) as error:
                raise GrpcError(Code.UNKNOWN, _told(error)) from error

    def _take(self, stat: Stat) -> bool:
        """Make the entry; whether its contents are to be asked for."""
        parts = tuple(stat.path.split("/"))
        # Go's order: by parts, a folder before what is in it.
        if not all(map(_is_name, parts)) or _key(parts) <= _key(self._last):
            raise Refused(f"invalid path from the engine: {stat.path!r}")
        self._last = parts
        path = self._root.joinpath(*parts)
        self._check_above(parts)
        mode = filemode.from_go(stat.mode)
        if st.S_ISDIR(mode):
            if path.is_symlink() or not path.is_dir():
                _remove(path)
                path.mkdir(0o700)
            self._folders.append(stat)
            return False
        _remove(path)
        if st.S_ISLNK(mode):
            path.symlink_to(stat.linkname)
            if os.utime in os.supports_follow_symlinks:
                os.utime(path, ns=(stat.mod_time, stat.mod_time), follow_symlinks=False)
            return False
        if st.S_ISREG(mode):
            if stat.linkname:
                self._link(stat, path)
            else:
                path.touch(0o600, exist_ok=False)
            self._regular.add(stat.path)
            return not stat.linkname
        self._make_other(stat, path, mode)
        return False

    def _check_above(self, parts: tuple[str, ...]) -> None:
        """No folder on the way may lead elsewhere."""
        above = self._root
        for part in parts[:-1]:
            above /= part
            if not st.S_ISDIR(above.lstat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(above))

    def _link(self, stat: Stat, path: Path) -> None:
        """Another name for a file that has come before."""
        if stat.linkname not in self._regular:
            raise Refused(f"invalid hard link from the engine: {stat.linkname!r}")
        parts = tuple(stat.linkname.split("/"))
        self._check_above(parts)
        path.hardlink_to(self._root.joinpath(*parts))

    def _make_other(self, stat: Stat, path: Path, mode: int) -> None:
        if sys.platform == "win32":
            raise Refused(f"{stat.path}: Windows has no files of this kind")
        if st.S_ISFIFO(mode):
            os.mkfifo(path, 0o600)
        elif st.S_ISBLK(mode) or st.S_ISCHR(mode):
            os.mknod(path, st.S_IFMT(mode) | 0o600, os.makedev(stat.devmajor, stat.devminor))
        path.chmod(st.S_IMODE(mode))

    def _data(self, packet: Packet) -> None:
        stat = self._wanted.get(packet.id)
        if stat is None:
            raise Refused(f"invalid file request {packet.id}")
        file = self._open.get(packet.id)
        if file is None:
            if len(self._open) >= MOST_OPEN:
                raise Refused("too many files at once")
            flags = os.O_WRONLY | sum(getattr(os, name, 0) for name in ("O_BINARY", "O_NOFOLLOW", "O_CLOEXEC"))
            file = self._open[packet.id] = os.fdopen(os.open(self._root / stat.path, flags), "wb", buffering=0)
        if packet.data:
            file.write(packet.data)
            return
        del self._open[packet.id], self._wanted[packet.id]
        file.close()
        _finish(self._root / stat.path, stat)

    def _finish(self) -> None:
        """What is in folders changes their times, and may need a right that they shall not give."""
        for stat in reversed(self._folders):
            _finish(self._root / stat.path, stat)

    def _close(self) -> None:
        for file in self._open.values():
            file.close()


def _is_name(part: str) -> bool:
    if part in ("", ".", "..") or "\0" in part:
        return False
    return sys.platform != "win32" or not set(part) & set('\\:*?"<>|')


def _key(parts: tuple[str, ...]) -> list[bytes]:
    return [os.fsencode(part) for part in parts]


def _finish(path: Path, stat: Stat) -> None:
    path.chmod(st.S_IMODE(filemode.from_go(stat.mode)))
    os.utime(path, ns=(stat.mod_time, stat.mod_time))


def _remove(path: Path) -> None:
    """Whatever is there, but no folder with something in it."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if st.S_ISDIR(mode):
        path.rmdir()
    else:
        path.unlink()


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename}" if error.filename else ""
        return f"failed to write{where}: {error.strerror.lower()}"
    return str(error)


class Archive:
    """Receives an archive into the file at `path`, which it replaces when it has come whole, or, with None, on stdout."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @property
    def to_stdout(self) -> bool:
        return self._path is None

    async def receive(self, call: Call[Raw, Raw]) -> None:
        """Raises `GrpcError`."""
        try:
            with self._opened() as descriptor:
                while (message := await call.receive()) is not None:
                    # Whoever reads it may take its time.
                    await asyncio.to_thread(_write_all, descriptor, BytesMessage.decode(message.data).data)
        except (OSError, ValueError) as error:
            raise GrpcError(Code.UNKNOWN, _told(error)) from error

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """A descriptor for what comes."""
        if self._path is None:
            yield 1
            return
        if self._path.exists() and not self._path.is_file():
            with self._path.open("wb", buffering=0) as file:  # /dev/null, or a pipe that somebody reads
                yield file.fileno()
            return
        target = self._path.resolve()
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".tmp-{target.name}", delete=False) as partial:
            try:
                yield partial.fileno()
                partial.close()
                if sys.platform != "win32":
                    Path(partial.name).chmod(0o666 & ~_umask())
                Path(partial.name).replace(target)
            except BaseException:
                partial.close()
                with suppress(OSError):
                    Path(partial.name).unlink()
                raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


Output = Folder | Archive
