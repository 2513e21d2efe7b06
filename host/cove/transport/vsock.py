"""Streams over a socket between host and guest: vsock on Linux, Hyper-V's on Windows. The frames are those of the serial port
(`cove.transport.serial`); only the address differs, and that the two sides have to show who they are (docs/decisions/0056).
"""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from coved.streams.knock import HYPERV_SERVICE, NONCE_SIZE, PORT, PROOF_SIZE, guests_proof, hosts_proof, same

VHOST_DEVICE = Path("/dev/vhost-vsock")
FIRST_CID, LAST_CID = 3, 0xFFFF_FFFE
_AF_HYPERV, _HV_RAW, _HV_CONNECT_TIMEOUT = 34, 1, 1
"""Python for Windows has them from 3.12 on."""


class GuestSocket:
    """Where a guest serves streams. `guest`: its context id under Linux, or the id of its VM under Hyper-V."""

    def __init__(self, guest: int | str, key: bytes) -> None:
        self.guest = guest
        self._key = key

    @property
    def address(self) -> tuple[int, int] | tuple[str, str]:
        return (self.guest, PORT) if isinstance(self.guest, int) else (self.guest, HYPERV_SERVICE)

    def dial(self, timeout_s: float) -> socket.socket:
        """A connection on which both sides have shown that they have the key (`cove.transport.serial.Dial`). Raises `OSError`."""
        made = self._connected(timeout_s)
        try:
            made.settimeout(timeout_s)
            greet(made, self._key)
        except BaseException:
            made.close()
            raise
        return made

    def _connected(self, timeout_s: float) -> socket.socket:
        family = _family(self.guest)
        made = socket.socket(family, socket.SOCK_STREAM, _HV_RAW if family == _AF_HYPERV else 0)
        try:
            if family == _AF_HYPERV:  # which knows no connecting that nobody waits for
                made.setsockopt(_HV_RAW, _HV_CONNECT_TIMEOUT, int(timeout_s * 1000))
            else:
                made.settimeout(timeout_s)
            made.connect(self.address)
        except BaseException:
            made.close()
            raise
        return made


def _family(guest: int | str) -> int:
    """Raises `OSError` where Python has no such sockets."""
    name = "AF_VSOCK" if isinstance(guest, int) else "AF_HYPERV"
    family = getattr(socket, name, None)
    if family is None:
        raise OSError(f"this Python has no {name}")
    return int(family)


def greet(connection: socket.socket, key: bytes) -> None:
    """Show the guest that we have the key, once it has shown that it has. Raises `OSError`."""
    ours = secrets.token_bytes(NONCE_SIZE)
    connection.sendall(ours)
    theirs = _exactly(connection, NONCE_SIZE)
    if not same(_exactly(connection, PROOF_SIZE), guests_proof(key, ours, theirs)):
        raise ConnectionRefusedError("who answers there is not this machine")
    connection.sendall(hosts_proof(key, ours, theirs))


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionResetError("the machine closed the connection")
        data += more
    return data


def any_cid() -> int:
    """A context id for a new VM. Whoever has it already, QEMU says so; there are four thousand million."""
    return FIRST_CID + secrets.randbelow(LAST_CID - FIRST_CID)


def unusable(device: Path = VHOST_DEVICE) -> str:
    """Why a VM of this computer can have no vsock; "" when it can."""
    if not hasattr(socket, "AF_VSOCK"):
        return "Python has no vsock here"
    try:
        device.open("r+b", buffering=0).close()
    except OSError as error:
        return f"{device}: {error.strerror}"
    return ""
