"""The docker socket on the host: each connection becomes a stream to the engine's socket in the guest.

Two threads for each connection: streams block, and a blocked thread costs nothing while nobody speaks.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import re
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from cove.errors import AgentError, CoveError
from cove.forward.taken import wait_until_taken
from cove.local.joined import Joined
from cove.local.sockets import Listener
from cove.transport.base import Stream, Transport

log = logging.getLogger(__name__)

ENGINE_SOCKET = "/run/docker.sock"
ENGINE_WAIT_S = 30.0
"""How long a client waits for an engine that is just being started again."""
_AGAIN_S = 0.1
_CHUNK = 1 << 16
_UPGRADED = b"HTTP/1.1 101 "
_REQUEST = re.compile(rb"[A-Z]+ [^ ]+ HTTP/1\.[01]\r?\n")
_TOO_MANY = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SHORTAGE_S = 0.1
_REFUSED_S = 5.0
"""For a client that says nothing, and so cannot be told in HTTP why it is not served."""
_STACK = 256 << 10
"""Bytes of a relay thread's stack, which calls no deep code; hundreds of them exist with many log followers."""
_relays = threading.Lock()
"""Held while the stack size, which is the whole process's, is that of a relay thread."""


class EngineDoor:
    """The way to the engine of one run of the VM. `answering` is set while it answers. For threads."""

    def __init__(self, transport: Transport, answering: threading.Event) -> None:
        self._transport = transport
        self._answering = answering
        self._closed = False

    def open(self) -> Stream:
        """A stream to the engine, waiting for one that has died and is being started again. Raises `TransportError`."""
        deadline = time.monotonic() + ENGINE_WAIT_S
        while True:
            try:
                return self._transport.open_stream(ENGINE_SOCKET)
            except CoveError:
                left = deadline - time.monotonic()
                if left <= 0 or not self._answering.wait(left) or self._closed:
                    raise
                # The refusal may be here before the news that the engine has died: then it seems to answer still.
                time.sleep(_AGAIN_S)

    def close(self) -> None:
        """The VM is gone: nobody waits for its engine any more."""
        self._closed = True
        self._answering.set()


class DockerSocket:
    """Serves who connects to `listener` from `start` to `close`: each gets a stream from `open_stream`, which may take its
    time, and whose `CoveError` the client is told. `changed` is called in a client's thread when it has come, and has gone.
    `lost` is what a client is told whose stream ends before it was answered.
    """

    def __init__(
        self,
        listener: Listener,
        open_stream: Callable[[], Stream],
        changed: Callable[[], None] = lambda: None,
        lost: CoveError | None = None,
    ) -> None:
        self._lost = lost or AgentError("the engine ended before it answered")
        self._listener = listener
        self._open_stream = open_stream
        self._changed = changed
        self._clients: set[socket.socket] = set()
        self._lock = threading.Lock()

    def start(self) -> None:
        _relay(self._accept, name="docker-socket")

    @property
    def clients(self) -> int:
        """How many are connected."""
        with self._lock:
            return len(self._clients)

    def close(self) -> None:
        """End all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            clients = [*self._clients]
        for client in clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError as error:
                if error.errno not in _TOO_MANY:
                    return  # closed
                log.warning("a docker client has to wait: %s", error.strerror)
                time.sleep(_SHORTAGE_S)  # nothing tells when there is room again
                continue
            try:
                _relay(self._serve, client)
            except RuntimeError:  # no more threads
                log.warning("a docker client cannot be served: this computer allows no more threads")
                client.close()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.add(client)
        self._changed()
        try:
            if _has_left(client):
                return  # while it waited to be accepted: nobody is there for whom a machine would have to be woken
            try:
                stream = self._open_stream()
                asked = _Asked()
                back = _answers(stream, client, asked, self._lost)
            except CoveError as error:
                log.warning("a docker client cannot be served: %s", error)
                _refuse(client, error)
                return
            except Exception as error:
                log.exception("a docker client cannot be served")
                _refuse(client, CoveError(f"the machine's agent failed: {error}"))
                return
            try:
                _to_guest(client, stream, asked)
            finally:
                back.join()
        finally:
            self._done(client)

    def _done(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.discard(client)
        self._changed()
        with contextlib.suppress(OSError):
            # Closed with input that the engine did not take, the connection would end with a reset (unix(7)), which the
            # client takes for an error. No more can come.
            client.shutdown(socket.SHUT_RDWR)
            while client.recv(_CHUNK):
                pass
        client.close()


def _relay(target: Callable[..., None], *args: Any, name: str | None = None) -> threading.Thread:
    """A running thread with a small stack. Other threads keep theirs. Raises `RuntimeError`."""
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    with _relays:
        before = threading.stack_size(_STACK)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    return thread


class _Asked:
    """What a client said first."""

    def __init__(self) -> None:
        self.first = b""


def _answers(stream: Stream, client: socket.socket, asked: _Asked, lost: CoveError) -> threading.Thread:
    """The thread that passes on what the engine says. Raises `AgentError`, with the stream closed."""
    try:
        return _relay(_to_client, stream, client, asked, lost)
    except RuntimeError as error:
        stream.close()
        raise AgentError("this computer allows no more threads") from error


def _refuse(client: socket.socket, error: CoveError) -> None:
    """Answer in the engine's place."""
    client.settimeout(_REFUSED_S)
    with contextlib.suppress(OSError):
        asked = client.recv(_CHUNK)
        client.sendall(_answer(error, b"503 Service Unavailable", asked))
        client.shutdown(socket.SHUT_WR)


def _answer(error: CoveError, status: bytes, asked: bytes) -> bytes:
    """In the form of the engine's errors: docker shows its users the `message`."""
    body = json.dumps({"message": "\n".join(part for part in (error.message, error.hint) if part)}).encode()
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + (b"" if asked.startswith(b"HEAD ") else body)


def _to_guest(client: socket.socket, stream: Stream, asked: _Asked) -> None:
    try:
        while data := client.recv(_CHUNK):
            asked.first = asked.first or data
            stream.sendall(data)
        stream.shutdown_write()
        _await_hangup(client)
    except (OSError, EOFError):
        return
    finally:
        stream.close()  # nobody reads what still comes


def _await_hangup(client: socket.socket) -> None:
    """Wait until the client is gone, or both directions are done.

    A client that leaves while the engine has nothing to say (a follower of events) looks like one that only has nothing more
    to say itself; the hang-up tells the two apart (poll(2)).
    """
    if isinstance(client, Joined):
        client.gone.wait()
    elif sys.platform != "win32":
        hangup = select.poll()
        hangup.register(client, 0)
        hangup.poll()


def _has_left(client: socket.socket) -> bool:
    """Whether a client is gone; one that only has nothing more to say is not."""
    if isinstance(client, Joined):
        return client.gone.is_set()
    if sys.platform == "win32":
        return False
    hangup = select.poll()
    hangup.register(client, 0)
    return bool(hangup.poll(0))


def _send_head(client: socket.socket, data: bytes) -> bytes:
    """Send the answer that ends HTTP on a connection, and give what came with it of the stream that follows.

    Clients that read this answer with a buffer, as docker-py does, lose what comes in the same read.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    client.sendall(head + end)
    wait_until_taken(client)
    return rest


def _to_client(stream: Stream, client: socket.socket, asked: _Asked, lost: CoveError) -> None:
    answered = False
    try:
        while data := stream.recv(_CHUNK):
            answered = True
            if data.startswith(_UPGRADED):
                data = _send_head(client, data)
            client.sendall(data)
        if not answered:
            _tell_lost(client, asked, lost)
        client.shutdown(socket.SHUT_WR)
    except BaseException as error:
        # The client is gone, or the guest: either way the other direction has no use any more.
        with contextlib.suppress(OSError):
            if not answered:
                _tell_lost(client, asked, lost)
            client.shutdown(socket.SHUT_RDWR)
        stream.close()
        if not isinstance(error, OSError | EOFError):
            raise


def _tell_lost(client: socket.socket, asked: _Asked, lost: CoveError) -> None:
    """Tell who waits for the first answer that none will come.

    After other answers the end of the connection has to do: whether a request is under way is not known here, and a client asks what
    does no harm once more when a connection that it has used before ends, but not after an error.
    """
    if _REQUEST.match(asked.first):
        client.sendall(_answer(lost, b"502 Bad Gateway", asked.first))
