"""Streams that lead to ports of this system instead of unix sockets: published ones and SSH, where the hypervisor forwards none.

Datagrams of UDP are in the stream with their lengths before them, two bytes each; one that cannot be sent is lost, as datagrams may be.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct

from coved.streams.service import Stream

ADDRESS = "127.0.0.1"
MARK = 0xC07E
"""Of the packets: nftables shall not take them for a program's, to which a published port has the number that it has on the host
(`coved.networks.firewall`)."""
LENGTH = struct.Struct("!H")
_TARGET = re.compile(rb"(tcp|udp):([0-9]{1,5})")
_DATAGRAM = 1 << 16


class Datagrams(Stream):
    def __init__(self, number: int, connection: socket.socket) -> None:
        super().__init__(number, connection)
        self.least = LENGTH.size + _DATAGRAM
        self._rest = b""

    def sent(self, data: bytes) -> int:
        self._rest += data
        while len(self._rest) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._rest)
            if len(self._rest) < LENGTH.size + size:
                break
            datagram = self._rest[LENGTH.size : LENGTH.size + size]
            self._rest = self._rest[LENGTH.size + size :]
            with contextlib.suppress(OSError):
                self.connection.send(datagram)
        return len(data)

    def heard(self) -> bytes:
        try:
            data = self.connection.recv(_DATAGRAM)
        except ConnectionRefusedError:  # of one before: somebody may be there for the next
            raise BlockingIOError from None
        return LENGTH.pack(len(data)) + data


def connecting(number: int, target: bytes) -> Stream:
    """A stream to a port, of which it is not known yet whether anybody is there. Raises ``OSError``, ``ValueError``."""
    found = _TARGET.fullmatch(target)
    if found is None or not 0 < int(found[2]) < 1 << 16:
        raise ValueError("neither a path nor a port")
    datagrams = found[1] == b"udp"
    kind = socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM
    connection = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    try:
        with contextlib.suppress(PermissionError):  # not as root
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
        if not datagrams:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BlockingIOError):
            connection.connect((ADDRESS, int(found[2])))
    except BaseException:
        connection.close()
        raise
    stream = Datagrams(number, connection) if datagrams else Stream(number, connection)
    stream.connecting = True
    return stream
