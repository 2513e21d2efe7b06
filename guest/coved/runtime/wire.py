"""Frames on the runtime's unix sockets: 4-byte big-endian length, then one JSON object; descriptors by SCM_RIGHTS.

A message that carries descriptors says how many in ``fds``; they travel with the first byte of its frame (unix(7): a
receive never crosses from one set of descriptors to the next, so they stay in order).
"""

import array
import json
import os
import socket
import struct
from typing import Any

Message = dict[str, Any]

MAX_FRAME = 8 * 1024 * 1024
MAX_FDS = 16
KEPT_EXITS = 256
_LENGTH = struct.Struct(">I")
_ANCILLARY_SIZE = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True)


class ProtocolError(Exception):
    """The peer sent something that is no frame."""


def encode(message: Message) -> bytes:
    """One frame, ready to send."""
    body = _encoder.encode(message).encode("ascii")
    return frame(body)


def frame(body: bytes) -> bytes:
    """Put a length before bytes that are JSON already."""
    if len(body) > MAX_FRAME:
        raise ProtocolError(f"a message of {len(body)} bytes is too long; {MAX_FRAME} are allowed")
    return _LENGTH.pack(len(body)) + body


def forget_oldest(exits: dict[str, Any]) -> None:
    """Keep what both sides remember of ended execs bounded: a health check makes one every few seconds for ever, and all
    that a shim remembers has to fit into one message. The end of init ("") stays."""
    if len(exits) > KEPT_EXITS:
        del exits[next(id for id in exits if id)]


def read_frame(sock: socket.socket) -> bytes:
    """The next frame's bytes from a socket that blocks or has a timeout, and nothing of what comes after it.

    Raises ProtocolError at the end of the stream, OSError.
    """
    (length,) = _LENGTH.unpack(_read(sock, _LENGTH.size))
    if length > MAX_FRAME:
        raise ProtocolError(f"a frame of {length} bytes is too long")
    return _read(sock, length)


def _read(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = sock.recv(length - len(data))
        if not more:
            raise ProtocolError("the request ended early")
        data += more
    return data


class FrameReader:
    """Cuts a byte stream into frames and keeps received descriptors in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds: list[int] = []

    def receive(self, sock: socket.socket) -> bool:
        """Read once from the socket; False at its end. Raises BlockingIOError when nothing is there."""
        data, ancillary, flags, _ = sock.recvmsg(64 * 1024, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
                self._fds.extend(fds)
        if flags & socket.MSG_CTRUNC:
            raise ProtocolError("more descriptors in one message than are allowed")
        self._buffer += data
        return bool(data)

    def next_body(self) -> bytes | None:
        """The next whole frame's bytes, or None when more must be received first."""
        buffer = self._buffer
        if len(buffer) < 4:
            return None
        (length,) = _LENGTH.unpack_from(buffer)
        if length > MAX_FRAME:
            raise ProtocolError(f"a frame of {length} bytes is too long")
        if len(buffer) < 4 + length:
            return None
        body = bytes(buffer[4 : 4 + length])
        del buffer[: 4 + length]
        return body

    def next_message(self) -> tuple[Message, list[int]] | None:
        """The next message and its descriptors, which now belong to the caller."""
        body = self.next_body()
        if body is None:
            return None
        message = decode(body)
        count = message.get("fds", 0)
        if not isinstance(count, int) or not 0 <= count <= len(self._fds):
            raise ProtocolError("descriptors are missing")
        fds, self._fds = self._fds[:count], self._fds[count:]
        return message, fds

    def close(self) -> None:
        """Close descriptors that no message has claimed."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()


def decode(body: bytes) -> Message:
    try:
        message = json.loads(body)
    except ValueError as error:
        raise ProtocolError(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError("not a JSON object")
    return message
