"""One connection served: several threads, of which one reads at a time.

Whoever reads a request does it at once, for most take less time than handing them on, and only what may take long (large
reads and writes, fsync) is done while another thread reads on. So the sessions' state belongs to the thread that reads.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import sys
import threading
import traceback
from pathlib import Path

from coved.shares.pump import MARK

from cove.local.sockets import Listener
from cove.share.ninep import wire
from cove.share.ninep.control import Control
from cove.share.ninep.folder import Folder
from cove.share.ninep.host import host
from cove.share.ninep.notices import Notices
from cove.share.ninep.owners import Owners
from cove.share.ninep.pretender import Pretences
from cove.share.ninep.session import Later, Sent, Session
from cove.share.ninep.stream import Connection, Reader
from cove.share.ninep.wire import HEADER, MalformedError, T

MAX_THREADS = 4
_JOINED = 1 << 14
"""Larger answers are not copied once more."""


def serve(
    connection: Connection,
    root: Path,
    *,
    read_only: bool,
    control: Listener | None = None,
    owner: tuple[int, int] = (0, 0),
) -> None:
    """Serve a folder on a connection until its end. `control`: a listening socket, for `Control`. Raises `OSError` for the folder.

    The process should have umask 0: modes are the guest's. `owner`: of files whose owner nobody has changed.
    """
    descriptor = host.open_root(root)
    try:
        folder = Folder(descriptor, read_only=read_only)
        notices, pretences = Notices(root), Pretences(folder)
        if control is not None:
            Control(control, notices, pretences).start()
        Server(connection, folder, Owners(folder, owner), pretences, notices).run()
        folder.close()
    finally:
        host.close(descriptor)


class Server:
    def __init__(
        self, connection: Connection, folder: Folder, owners: Owners, pretences: Pretences, notices: Notices
    ) -> None:
        self._connection = connection
        self._parts = (folder, owners, pretences, notices)
        self._reader = Reader(connection, self._rest if host.HOLDS_BACK else None)
        self._session: Session | None = None
        self._leading = threading.Lock()
        self._sending = threading.Lock()
        self._flushes: dict[int, list[int]] = {}
        """Tags of requests that go on in other threads, and of the Tflushes that wait for each."""
        self._counting = threading.Lock()
        self._idle = 0
        """Threads that wait to read."""
        self._threads: list[threading.Thread] = []
        self._over = False
        self._max_open = host.open_limit()

    def run(self) -> None:
        """Returns at the end of the connection, when all threads are done."""
        self._work()
        for thread in self._threads:
            thread.join()
        if self._session is not None:
            self._session.close()

    def _work(self) -> None:
        while True:
            with self._counting:
                self._idle += 1
            with self._leading:
                with self._counting:
                    self._idle -= 1
                try:
                    task = None if self._over else self._lead()
                except OSError:  # of the connection
                    task = None
                if task is None:
                    self._over = True
                    return
                if not self._idle and len(self._threads) < MAX_THREADS - 1:
                    thread = threading.Thread(target=self._work, daemon=True)
                    self._threads.append(thread)
                    thread.start()
            self._finish(*task)

    def _lead(self) -> tuple[int, int, Later, Session, bytearray | None] | None:
        """Read requests and do them, up to one that may take long; None at the end."""
        reader = self._reader
        while (message := reader.next()) is not None:
            kind, tag, body = message
            if reader.marked:
                self._new_session(None)
                with self._sending:
                    self._connection.sendall(MARK)
            if kind == T.FLUSH:
                self._flush(tag, body)
                continue
            try:
                if kind == T.VERSION:
                    self._send(kind, tag, self._version(body))
                    continue
                session = self._session
                if session is None:
                    raise OSError(errno.EPROTO, "no session yet")
                answer = session.request(kind, body)
            except Exception as error:
                self._refuse(tag, error)
                continue
            if isinstance(answer, Later):
                with self._sending:
                    self._flushes.setdefault(tag, [])
                return kind, tag, answer, session, reader.give_away() if kind == T.WRITE else None
            self._send(kind, tag, answer)
        return None

    def _finish(self, kind: int, tag: int, later: Later, session: Session, buffer: bytearray | None) -> None:
        try:
            answer: Sent | Exception = later.work()
        except Exception as error:
            answer = error
        finally:
            later.fid.done()
            if buffer is not None:
                self._reader.take_back(buffer)
        with contextlib.suppress(ConnectionError), self._sending:
            if session is not self._session:
                return  # nobody waits for it any more
            if isinstance(answer, Exception):
                self._put(wire.RLERROR, tag, _error(answer))
            else:
                self._put(kind + 1, tag, answer)
            for waiting in self._flushes.pop(tag, []):
                self._put(T.FLUSH + 1, waiting, b"")

    def _rest(self) -> None:
        """Nobody has asked for anything for a while."""
        if self._session is not None:
            self._session.rest()

    def _flush(self, tag: int, body: memoryview) -> None:
        old = int.from_bytes(body[:2], "little")
        with self._sending:
            if old in self._flushes:
                self._flushes[old].append(tag)
            else:
                self._put(T.FLUSH + 1, tag, b"")

    def _version(self, body: memoryview) -> bytes:
        msize = int.from_bytes(body[:4], "little")
        version, _ = wire.string(body, 4)
        if msize < wire.MIN_MSIZE:
            raise OSError(errno.EINVAL, "too small an msize")
        msize = min(msize, wire.MAX_MSIZE)
        known = version == wire.VERSION
        self._new_session(Session(*self._parts, msize=msize, max_open=self._max_open) if known else None)
        self._reader.msize = msize if known else wire.MIN_MSIZE
        answer = wire.VERSION if known else b"unknown"
        return wire.U32.pack(msize) + wire.U16.pack(len(answer)) + answer

    def _new_session(self, session: Session | None) -> None:
        with self._sending:
            before, self._session = self._session, session
            self._flushes.clear()
        if before is not None:
            before.close()

    # Sending.

    def _send(self, kind: int, tag: int, answer: Sent) -> None:
        with self._sending:
            self._put(kind + 1, tag, answer)

    def _refuse(self, tag: int, error: Exception) -> None:
        with self._sending:
            self._put(wire.RLERROR, tag, _error(error))

    def _put(self, kind: int, tag: int, answer: Sent) -> None:
        if isinstance(answer, bytes):
            self._connection.sendall(HEADER.pack(HEADER.size + len(answer), kind, tag) + answer)
            return
        head, data = answer
        head = HEADER.pack(HEADER.size + len(head) + len(data), kind, tag) + head
        if len(data) < _JOINED:
            self._connection.sendall(head + data)
            return
        if isinstance(self._connection, socket.socket):
            host.send_both(self._connection, head, data)
        else:
            self._connection.sendall(head)
            self._connection.sendall(data)


def _error(error: Exception) -> bytes:
    """An error as the guest is told it; what is no error of a request is told to the log, too."""
    if isinstance(error, OSError):
        return wire.U32.pack(wire.linux_errno(error.errno))
    if isinstance(error, MalformedError | struct.error | ValueError | OverflowError):
        return wire.U32.pack(22)  # EINVAL
    if isinstance(error, MemoryError):
        return wire.U32.pack(12)  # ENOMEM
    traceback.print_exception(error, file=sys.stderr)
    return wire.U32.pack(wire.EIO)
