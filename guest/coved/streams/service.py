"""The guest's end of the streams: each leads from a virtio-serial port to a unix socket of this system. One process, and one thread for
the port; where the host may come by vsock as well, another for that (`coved.streams.vsock`). Where there is no such port, vsock is all.

While the host's end of such a port is closed it reports a hang-up without pause; so it is watched for changes only (EPOLLET).
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import sys
from collections import deque
from pathlib import Path

from coved.streams.frames import (
    CREDIT,
    DATA,
    END,
    GRANT,
    GUEST,
    HELLO,
    MAX_DATA,
    OPEN,
    OPENED,
    RESET,
    SERVE,
    WINDOW,
    Frame,
    FrameDecoder,
    FrameError,
    credit,
    frame,
    granted,
)
from coved.streams.key import KEY

_READ_SIZE = 1 << 17
BACKLOG = 64
DESCRIPTORS = 1 << 16
MAX_UNSENT = 1 << 20
"""Bytes that wait for room in the port before no more are read from sockets."""


class Stream:
    """One, and the socket that it leads to."""

    def __init__(self, number: int, connection: socket.socket) -> None:
        self.number = number
        self.connection = connection
        self.room = WINDOW
        """Bytes that the host takes of it now."""
        self.pending: deque[bytes] = deque()
        """What the socket has not taken yet."""
        self.pending_size = 0
        self.taken = 0
        """Bytes that the socket has taken and the host was not granted again."""
        self.over_there = False
        """The host has nothing more to say."""
        self.over_here = False
        """Nor has the socket."""
        self.watched = 0
        self.least = 1
        """So much room the host must have before the socket is read."""
        self.connecting = False
        """It is not known yet whether there is anybody."""

    def sent(self, data: bytes) -> int:
        """How much of it the socket has taken. Raises ``OSError``."""
        return self.connection.send(data, socket.MSG_NOSIGNAL)

    def heard(self) -> bytes:
        """What the socket has to say, for which there is room; nothing at its end. Raises ``OSError``."""
        return self.connection.recv(min(self.room, MAX_DATA))


class Streams:
    """Serves one port. `run` does not return while there is the port."""

    def __init__(self, port: str) -> None:
        self._path = port
        self._port = -1
        self._changes = select.epoll()
        self._sockets = select.epoll()
        self._changes.register(self._sockets, select.EPOLLIN)
        self._reading = True
        """Sockets are looked at; not while the port has no room."""
        self._decoder = FrameDecoder()
        self._streams: dict[int, Stream] = {}
        self._numbers: dict[int, int] = {}
        """Streams by their socket's descriptor."""
        self._listeners: dict[int, tuple[socket.socket, bytes]] = {}
        """Of the host's services, by their descriptor."""
        self._next = GUEST
        self._unsent: deque[bytes] = deque()
        self._unsent_size = 0
        self._cut = False
        """The host has a part of the first of them."""
        self._answer = b""
        """That to the host's greeting, while the port has taken nothing of it."""

    def run(self) -> None:
        self._open_port()
        while True:
            for descriptor, _ in self._changes.poll():
                if descriptor == self._port:
                    self._send()
                    self._receive()
                elif descriptor == self._sockets.fileno():
                    self._serve_sockets()
                else:
                    self._other(descriptor)
            self._send()

    def _open_port(self) -> None:
        self._port = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        self._changes.register(self._port, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)

    def _begin_anew(self) -> None:
        """The host is gone, or says what is no frame: whatever lies unread is dropped, which the kernel does at a close."""
        self._forget()
        self._changes.unregister(self._port)
        os.close(self._port)
        self._open_port()

    def _forget(self) -> None:
        for stream in [*self._streams.values()]:
            self._drop(stream)
        for listener, path in self._listeners.values():
            listener.close()
            _socket_file(path).unlink(missing_ok=True)
        self._listeners.clear()
        self._decoder.reset()
        self._unsent.clear()
        self._unsent_size = 0
        self._cut = False
        self._answer = b""

    # The port.

    def _hung_up(self) -> None:
        """virtio_console says so while the host's end is closed, or is not known to be open yet, which the kernel may hear after what
        the host has said: then it takes no answer either. A host that has come instead of that one passes over it."""
        answer = self._answer
        self._forget()
        self._greet(answer)

    def _other(self, descriptor: int) -> None:
        """What else changes is looked at."""

    def _receive(self) -> None:
        while True:
            try:
                data = os.read(self._port, _READ_SIZE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._hung_up()
                return
            try:
                for one in self._decoder.feed(data):
                    self._handle(one)
            except FrameError as error:
                print(f"the host's frames cannot be read: {error}", file=sys.stderr, flush=True)
                self._begin_anew()
                return
            self._send()

    def _say(self, data: bytes) -> None:
        self._unsent.append(data)
        self._unsent_size += len(data)

    def _send(self) -> None:
        while self._unsent:
            data = self._unsent[0]
            try:
                count = os.write(self._port, data)
            except BlockingIOError:
                break
            except OSError:
                self._forget()
                break
            self._unsent_size -= count
            self._cut = count < len(data)
            if data is self._answer and count:
                self._answer = b""
            if self._cut:
                self._unsent[0] = data[count:]
            else:
                self._unsent.popleft()
        reading = self._unsent_size < MAX_UNSENT
        if reading != self._reading:
            self._reading = reading
            self._changes.modify(self._sockets, select.EPOLLIN if reading else 0)

    def _handle(self, one: Frame) -> None:
        if one.kind == HELLO:
            rest = self._unsent[0] if self._cut else b""
            self._forget()
            if rest:  # a host that says farewell reads frames to the end
                self._say(rest)
                self._cut = True
            self._greet(frame(HELLO, 0, one.payload))
            return
        if one.kind == OPEN:
            self._open(one.stream, one.payload)
            return
        if one.kind == SERVE:
            self._listen(one.payload)
            return
        stream = self._streams.get(one.stream)
        if stream is None:
            return  # it is over here, which the host does not know yet
        if one.kind == DATA:
            self._take(stream, one.payload)
        elif one.kind == CREDIT:
            stream.room += granted(one.payload)
            self._watch(stream)
        elif one.kind == END:
            stream.over_there = True
            self._flush(stream)
        elif one.kind == RESET:
            # What it sent before is still delivered, and nothing more is read.
            stream.over_there = stream.over_here = True
            self._flush(stream)

    def _greet(self, answer: bytes) -> None:
        self._answer = answer
        if answer:
            self._say(answer)

    def _open(self, number: int, target: bytes) -> None:
        if number in self._streams:
            raise FrameError(f"stream {number} is open already")
        if not target.startswith(b"/"):
            self._open_port_inside(number, target)
            return
        connection = None
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            connection.connect(target)
        except (OSError, ValueError) as error:
            if connection is not None:
                connection.close()
            self._refuse(number, error)
            return
        self._say(frame(OPENED, number))
        self._begin(Stream(number, connection))

    def _refuse(self, number: int, error: OSError | ValueError) -> None:
        reason = error.strerror if isinstance(error, OSError) else None
        self._say(frame(RESET, number, (reason or str(error)).encode()[:MAX_DATA]))

    def _open_port_inside(self, number: int, target: bytes) -> None:
        from coved.streams import inside  # no QEMU's host asks for it

        try:
            stream = inside.connecting(number, target)
        except (OSError, ValueError) as error:
            self._refuse(number, error)
            return
        self._begin(stream)

    def _connected(self, stream: Stream) -> None:
        """Tell the host that somebody is there, or that nobody is."""
        stream.connecting = False
        if failure := stream.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._refuse(stream.number, OSError(failure, os.strerror(failure)))
            self._drop(stream)
            return
        self._say(frame(OPENED, stream.number))
        self._watch(stream)

    def _begin(self, stream: Stream) -> None:
        self._streams[stream.number] = stream
        self._numbers[stream.connection.fileno()] = stream.number
        self._watch(stream)

    # Services of the host.

    def _listen(self, path: bytes) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            _socket_file(path).unlink(missing_ok=True)
            mask = os.umask(0o177)  # from its first moment on
            try:
                listener.bind(path)
            finally:
                os.umask(mask)
            listener.listen(BACKLOG)
        except (OSError, ValueError) as error:
            listener.close()
            print(f"no service of the host at {path!r}: {error}", file=sys.stderr, flush=True)
            return
        self._listeners[listener.fileno()] = listener, path
        self._sockets.register(listener, select.EPOLLIN)

    def _accept(self, listener: socket.socket, path: bytes) -> None:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # no descriptors: who waits would be told of without pause
            print(f"no connection to a service of the host: {error}", file=sys.stderr, flush=True)
            self._sockets.unregister(listener)
            return
        connection.setblocking(False)
        self._say(frame(OPEN, self._next, path))
        self._begin(Stream(self._next, connection))
        self._next = GUEST + (self._next + 1) % GUEST

    # Sockets.

    def _serve_sockets(self) -> None:
        for descriptor, events in self._sockets.poll(0):
            if descriptor in self._listeners:
                self._accept(*self._listeners[descriptor])
                continue
            stream = self._streams.get(self._numbers.get(descriptor, -1))
            if stream is None:
                continue
            if stream.connecting:
                self._connected(stream)
                continue
            if events & select.EPOLLOUT and not self._flush(stream):
                continue
            if events & ~select.EPOLLOUT and stream.watched & select.EPOLLIN:
                self._read(stream)

    def _read(self, stream: Stream) -> None:
        try:
            data = stream.heard()
        except BlockingIOError:
            return
        except OSError:
            self._break(stream)
            return
        if data:
            stream.room -= len(data)
            for begin in range(0, len(data), MAX_DATA):
                self._say(frame(DATA, stream.number, data[begin : begin + MAX_DATA]))
        else:
            stream.over_here = True
            self._say(frame(END, stream.number))
        self._settle(stream)

    def _take(self, stream: Stream, data: bytes) -> None:
        if stream.pending_size + len(data) > WINDOW:
            raise FrameError(f"more of stream {stream.number} than there is room for")
        stream.pending.append(data)
        stream.pending_size += len(data)
        self._flush(stream)

    def _flush(self, stream: Stream) -> bool:
        """Give the socket what it takes. Whether the stream goes on."""
        while stream.pending:
            data = stream.pending[0]
            try:
                count = stream.sent(data)
            except BlockingIOError:
                break
            except OSError:
                self._break(stream)
                return False
            stream.pending_size -= count
            stream.taken += count
            if count == len(data):
                stream.pending.popleft()
            else:
                stream.pending[0] = data[count:]
        if stream.taken >= GRANT and not stream.over_there:
            self._say(credit(stream.number, stream.taken))
            stream.taken = 0
        if stream.over_there and not stream.pending:
            try:
                stream.connection.shutdown(socket.SHUT_WR)
            except OSError as error:
                if error.errno != errno.ENOTCONN:
                    raise
        return self._settle(stream)

    def _settle(self, stream: Stream) -> bool:
        if stream.over_there and stream.over_here and not stream.pending:
            self._drop(stream)
            return False
        self._watch(stream)
        return True

    def _watch(self, stream: Stream) -> None:
        """Have epoll tell of what can be done; a socket with which nothing can be would tell of its hang-up without pause."""
        wanted = select.EPOLLIN if stream.room >= stream.least and not stream.over_here else 0
        if stream.connecting:
            wanted = select.EPOLLOUT
        elif stream.pending:
            wanted |= select.EPOLLOUT
        if wanted == stream.watched:
            return
        if not stream.watched:
            self._sockets.register(stream.connection, wanted)
        elif not wanted:
            self._sockets.unregister(stream.connection)
        else:
            self._sockets.modify(stream.connection, wanted)
        stream.watched = wanted

    def _break(self, stream: Stream) -> None:
        self._say(frame(RESET, stream.number))
        self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        del self._streams[stream.number]
        del self._numbers[stream.connection.fileno()]
        stream.connection.close()  # epoll forgets it with that


def _socket_file(path: bytes) -> Path:
    return Path(os.fsdecode(path))


def _or_end(streams: Streams) -> None:
    """Serve; when that fails, this process ends, which PID 1 starts again: nobody else would see that one thread is gone."""
    try:
        streams.run()
    except Exception:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def allow_descriptors() -> None:
    """Each stream has one."""
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    except (OSError, ValueError):  # not as root
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main(port: str) -> int:
    allow_descriptors()
    by_vsock = None
    if Path(KEY).exists():
        from coved.streams import vsock

        by_vsock = vsock.prepared()
    if by_vsock is not None and not Path(port).exists():
        by_vsock.run()
    elif by_vsock is not None:
        import threading

        threading.Thread(target=_or_end, args=(by_vsock,), name="vsock", daemon=True).start()
    Streams(port).run()
    return 0
