"""The link's wire format: what the agent on the laptop and the engine in the VM say to each other.

A frame is a 4-byte big-endian length and that many bytes of UTF-8 JSON, one object with a string ``type``. Both sides
treat what arrives as hostile: sizes are bounded before anything is kept, and every field is checked before it is used.
This module is shared by host and guest, so it imports the standard library's portable part only.
"""

from __future__ import annotations

import ipaddress
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

VERSION = 1
MAX_FRAME = 1 << 20
"""The longest JSON text of one frame, in bytes."""

MAX_PORTS = 4096
"""The most ports that one ``sync`` or ``reply`` may carry, and so the most that may be published at a time; so many fit
into one frame, however long their addresses."""

_HEADER = struct.Struct("!I")
_MAX_TEXT = 4096

Proto = Literal["tcp", "udp"]


class ProtocolError(Exception):
    """The peer sent what the protocol does not allow; the link cannot be used any further."""


def encode(message: Mapping[str, Any]) -> bytes:
    """The frame that carries ``message``.

    Raises:
        ProtocolError: the message is longer than a frame may be.
    """
    text = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
    if len(text) > MAX_FRAME:
        raise ProtocolError(f"message of {len(text)} bytes is longer than the {MAX_FRAME} bytes of a frame")
    return _HEADER.pack(len(text)) + text


class FrameDecoder:
    """Turns a stream of bytes into messages; keeps at most one unfinished frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that ``data`` completes, in order.

        Raises:
            ProtocolError: a frame is empty, too long, not UTF-8, not JSON, or not an object with a ``type``.
        """
        self._buffer += data
        messages = []
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if not 0 < length <= MAX_FRAME:
                raise ProtocolError(f"frame of {length} bytes (1 to {MAX_FRAME} are allowed)")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            text = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            messages.append(_parse(text))
        return messages

    def reset(self) -> None:
        """Forgets an unfinished frame, because the stream starts anew."""
        self._buffer.clear()


def _parse(text: bytes) -> dict[str, Any]:
    try:
        message = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"frame is not UTF-8 JSON: {error}") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolError("frame is not a JSON object with a type")
    return message


@dataclass(frozen=True)
class PortForward:
    """A port of the host that is forwarded to a port of the VM's own address."""

    proto: Proto
    guest_port: int
    host_ip: str = ""
    """Empty: the machine's default bind address."""
    host_port: int = 0
    """0: any free port."""

    def to_json(self) -> dict[str, Any]:
        return {
            "proto": self.proto,
            "host_ip": self.host_ip,
            "host_port": self.host_port,
            "guest_port": self.guest_port,
        }

    @classmethod
    def from_json(cls, value: object) -> PortForward:
        """Raises ProtocolError when ``value`` is not a valid PORT object."""
        if not isinstance(value, dict):
            raise ProtocolError("port is not an object")
        proto = value.get("proto")
        if proto not in ("tcp", "udp"):
            raise ProtocolError(f"port has protocol {_shown(proto)}, not tcp or udp")
        host_ip = value.get("host_ip", "")
        if host_ip != "":
            try:
                # A zone (RFC 4007) is a text of any length, and names an interface of a computer that is not known.
                if not isinstance(host_ip, str) or "%" in host_ip:
                    raise ValueError
                host_ip = str(ipaddress.ip_address(host_ip))
            except ValueError:
                raise ProtocolError(f"port has host_ip {_shown(host_ip)}, not an IP address") from None
        return cls(
            proto=proto,
            guest_port=_integer(value, "guest_port", 1, 65535),
            host_ip=host_ip,
            host_port=_integer(value, "host_port", 0, 65535),
        )


@dataclass(frozen=True)
class Hello:
    """Host to guest, first on every connection."""

    version: int
    unix_ns: int

    def to_json(self) -> dict[str, Any]:
        return {"type": "hello", "version": self.version, "unix_ns": self.unix_ns}


@dataclass(frozen=True)
class Ready:
    """Guest to host, the answer to hello once the API answers."""

    boot_id: str
    engine_version: str
    api_version: str

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "ready",
            "boot_id": self.boot_id,
            "engine_version": self.engine_version,
            "api_version": self.api_version,
        }


@dataclass(frozen=True)
class Sync:
    """Guest to host, directly after ready: the forwards shall be exactly these."""

    id: int
    ports: tuple[PortForward, ...]

    def to_json(self) -> dict[str, Any]:
        return {"type": "sync", "id": self.id, "ports": [port.to_json() for port in self.ports]}


@dataclass(frozen=True)
class Publish:
    """Guest to host; the guest waits for the reply."""

    id: int
    port: PortForward

    def to_json(self) -> dict[str, Any]:
        return {"type": "publish", "id": self.id, **self.port.to_json()}


@dataclass(frozen=True)
class Unpublish:
    """Guest to host; the guest waits for the reply."""

    id: int
    port: PortForward

    def to_json(self) -> dict[str, Any]:
        return {"type": "unpublish", "id": self.id, **self.port.to_json()}


@dataclass(frozen=True)
class Reply:
    """Host to guest, the answer to sync, publish and unpublish: the ports as they were bound, or why they were not."""

    id: int
    ok: bool
    ports: tuple[PortForward, ...] = ()
    error: str = ""
    in_use: bool = False

    def to_json(self) -> dict[str, Any]:
        if self.ok:
            return {"type": "reply", "id": self.id, "ok": True, "ports": [port.to_json() for port in self.ports]}
        return {"type": "reply", "id": self.id, "ok": False, "error": self.error[:_MAX_TEXT], "in_use": self.in_use}


@dataclass(frozen=True)
class Time:
    """Host to guest: the host's clock, after it slept or jumped."""

    unix_ns: int

    def to_json(self) -> dict[str, Any]:
        return {"type": "time", "unix_ns": self.unix_ns}


@dataclass(frozen=True)
class Lost:
    """Host to guest: of the forwards that it shall have, exactly these it has not, because others have the ports."""

    ports: tuple[PortForward, ...]

    def to_json(self) -> dict[str, Any]:
        return {"type": "lost", "ports": [port.to_json() for port in self.ports]}


@dataclass(frozen=True)
class Shutdown:
    """Host to guest: stop the containers, write everything out, power off."""

    timeout_s: int

    def to_json(self) -> dict[str, Any]:
        return {"type": "shutdown", "timeout_s": self.timeout_s}


@dataclass(frozen=True)
class Stopping:
    """Guest to host: the engine is going down on purpose."""

    def to_json(self) -> dict[str, Any]:
        return {"type": "stopping"}


HostMessage = Hello | Reply | Lost | Time | Shutdown
GuestMessage = Ready | Sync | Publish | Unpublish | Stopping


def parse_host_message(message: Mapping[str, Any]) -> HostMessage:
    """What the host sent, checked.

    Raises:
        ProtocolError: unknown type, or a field that is missing or wrong.
    """
    match message["type"]:
        case "hello":
            return Hello(_integer(message, "version", 1, 1 << 31), _integer(message, "unix_ns", 0, 1 << 63))
        case "reply":
            number = _integer(message, "id", 0, 1 << 53)
            if _boolean(message, "ok"):
                return Reply(number, ok=True, ports=_ports(message))
            return Reply(number, ok=False, error=_text(message, "error"), in_use=_boolean(message, "in_use", False))
        case "time":
            return Time(_integer(message, "unix_ns", 0, 1 << 63))
        case "lost":
            return Lost(_ports(message))
        case "shutdown":
            return Shutdown(_integer(message, "timeout_s", 0, 3600))
        case other:
            raise ProtocolError(f"unknown message {_shown(other)} from the host")


def parse_guest_message(message: Mapping[str, Any]) -> GuestMessage:
    """What the guest sent, checked.

    Raises:
        ProtocolError: unknown type, or a field that is missing or wrong.
    """
    match message["type"]:
        case "ready":
            return Ready(_text(message, "boot_id"), _text(message, "engine_version"), _text(message, "api_version"))
        case "sync":
            return Sync(_integer(message, "id", 0, 1 << 53), _ports(message))
        case "publish":
            return Publish(_integer(message, "id", 0, 1 << 53), PortForward.from_json(message))
        case "unpublish":
            return Unpublish(_integer(message, "id", 0, 1 << 53), PortForward.from_json(message))
        case "stopping":
            return Stopping()
        case other:
            raise ProtocolError(f"unknown message {_shown(other)} from the guest")


def _integer(message: Mapping[str, Any], key: str, low: int, high: int) -> int:
    value = message.get(key)
    if type(value) is not int or not low <= value <= high:  # bool is an int to isinstance
        raise ProtocolError(f"{key} is {_shown(value)}, not an integer from {low} to {high}")
    return value


def _boolean(message: Mapping[str, Any], key: str, default: bool | None = None) -> bool:
    value = message.get(key, default)
    if not isinstance(value, bool):
        raise ProtocolError(f"{key} is {_shown(value)}, not true or false")
    return value


def _text(message: Mapping[str, Any], key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ProtocolError(f"{key} is {_shown(value)}, not a text of at most {_MAX_TEXT} characters")
    return value


def _ports(message: Mapping[str, Any]) -> tuple[PortForward, ...]:
    value = message.get("ports")
    if not isinstance(value, list) or len(value) > MAX_PORTS:
        raise ProtocolError(f"ports is {_shown(value)}, not a list of at most {MAX_PORTS} ports")
    return tuple(PortForward.from_json(port) for port in value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
