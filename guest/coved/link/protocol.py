"""The link's wire format: what the agent on the laptop and the engine in the VM say to each other.

A frame is a 4-byte big-endian length and that many bytes of UTF-8 JSON, one object with a string ``type``. Both sides
treat what arrives as hostile: sizes are bounded before anything is kept, and every field is checked before it is used.
This module is shared by host and guest, so it imports the standard library's portable part only.
"""

from __future__ import annotations

import ipaddress
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from coved.outside import Outside

VERSION = 1
MAX_FRAME = 1 << 20
"""The longest JSON text of one frame, in bytes."""

MAX_PORTS = 4096
"""The most ports that one ``sync`` or ``reply`` may carry, and so the most that may be published at a time; so many fit
into one frame, however long their addresses."""

MAX_WATCHED = 256
"""The most folders and files that the host is asked to watch."""
MAX_CHANGES = 512
"""The most changes of one ``changes``."""
MAX_SHARES = 64
"""The most folders that the host shares."""
MAX_SOCKETS = 8
"""The most paths of the host by which its programs call the engine's socket."""

_HEADER = struct.Struct("!I")
_MAX_TEXT = 4096

Proto = Literal["tcp", "udp"]
ChangeKind = Literal["create", "modify", "close", "attrib", "delete", "move"]
What = Literal["file", "dir", "symlink", "fifo", "socket"]


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


def in_each_others_way(one: str, other: str) -> bool:
    """Whether a port of one IP address cannot be bound while somebody has it of the other."""
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    return first.version == second.version and (first == second or first.is_unspecified or second.is_unspecified)


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
    outside: Outside | None = None
    """None: the host has nothing new to say of it."""
    answers_time: bool = False
    """The host may be asked for its time."""

    def to_json(self) -> dict[str, Any]:
        more: dict[str, Any] = {} if self.outside is None else {"outside": self.outside.to_json()}
        if self.answers_time:
            more["answers_time"] = True
        return {"type": "hello", "version": self.version, "unix_ns": self.unix_ns, **more}


@dataclass(frozen=True)
class News:
    """Host to guest: proxies or certificates have changed."""

    outside: Outside

    def to_json(self) -> dict[str, Any]:
        return {"type": "outside", "outside": self.outside.to_json()}


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
    keep: bool = False
    """When another program has the port it is lost (which is told before the reply), and not refused."""

    def to_json(self) -> dict[str, Any]:
        return {"type": "publish", "id": self.id, **self.port.to_json(), **({"keep": True} if self.keep else {})}


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
    """Host to guest: the host's clock, when it was asked, and when it slept or jumped or said nothing of it for a while."""

    unix_ns: int
    id: int | None = None
    """That of the question."""

    def to_json(self) -> dict[str, Any]:
        return {"type": "time", "unix_ns": self.unix_ns, **({} if self.id is None else {"id": self.id})}


@dataclass(frozen=True)
class AskTime:
    """Guest to host, when it has said that it answers."""

    id: int

    def to_json(self) -> dict[str, Any]:
        return {"type": "ask_time", "id": self.id}


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


@dataclass(frozen=True)
class Activity:
    """Guest to host, when it changes and after each hello: what the engine is busy with (``coved.activity``)."""

    level: Literal["busy", "running", "idle"]

    def to_json(self) -> dict[str, Any]:
        return {"type": "activity", "level": self.level}


@dataclass(frozen=True)
class Change:
    """What happened to a file of a watched folder; paths are relative to the folder, "" is the folder itself."""

    kind: ChangeKind
    """``modify``: written to and, as far as the host can tell, closed; ``close``: closed after nothing was written."""
    path: str
    what: What = "file"
    to: str = ""
    """Of a move: the new path."""
    real: str | None = None
    """Where the object of a ``create`` or ``move`` is now, for more may have happened to it; None: nowhere."""

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"kind": self.kind, "path": self.path, "what": self.what}
        if self.kind == "move":
            value["to"] = self.to
        if self.kind in ("move", "create"):
            value["real"] = self.real
        return value

    @classmethod
    def from_json(cls, value: object) -> Change:
        """Raises ProtocolError when ``value`` is not a valid CHANGE object."""
        if not isinstance(value, dict):
            raise ProtocolError("change is not an object")
        kind, what, real = value.get("kind"), value.get("what"), value.get("real")
        if kind not in ("create", "modify", "close", "attrib", "delete", "move"):
            raise ProtocolError(f"change has kind {_shown(kind)}")
        if what not in ("file", "dir", "symlink", "fifo", "socket"):
            raise ProtocolError(f"change is of {_shown(what)}")
        return cls(
            kind=kind,
            path=_below(value, "path"),
            what=what,
            to=_below(value, "to") if kind == "move" else "",
            real=None if real is None else _below(value, "real"),
        )


@dataclass(frozen=True)
class Watch:
    """Guest to host: the host shall watch exactly these folders and files, paths of the guest."""

    paths: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"type": "watch", "paths": list(self.paths)}


@dataclass(frozen=True)
class Changes:
    """Host to guest: what happened, in order; the guest answers with ``changed`` when its kernel knows."""

    id: int
    path: str
    """The watched folder, or the folder of a watched file, as the guest calls it."""
    token: str
    """Lets the guest pretend to a server of the agent."""
    changes: tuple[Change, ...] = ()
    lost: bool = False
    """More happened than can be told: what is cached of the folder must not be trusted."""

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "changes",
            "id": self.id,
            "path": self.path,
            "token": self.token,
            "changes": [change.to_json() for change in self.changes],
            "lost": self.lost,
        }


@dataclass(frozen=True)
class Changed:
    """Guest to host, the answer to changes."""

    id: int

    def to_json(self) -> dict[str, Any]:
        return {"type": "changed", "id": self.id}


@dataclass(frozen=True)
class SharedFolder:
    """A folder of the host's computer. ``tag`` names its device, ``path`` is as that computer writes it."""

    tag: str
    path: str
    read_only: bool
    driver: str
    token: str = ""
    """What the folder's server takes for a sign that the engine, and no container, speaks."""

    def to_json(self) -> dict[str, Any]:
        return {
            "tag": self.tag,
            "path": self.path,
            "read_only": self.read_only,
            "driver": self.driver,
            "token": self.token,
        }

    @classmethod
    def from_json(cls, value: object) -> SharedFolder:
        """Raises ProtocolError when ``value`` is not a valid SHARE object."""
        if not isinstance(value, dict):
            raise ProtocolError("share is not an object")
        tag, driver = _text(value, "tag"), _text(value, "driver")
        if not (tag.isascii() and tag.isalnum() and len(tag) <= 31):
            raise ProtocolError(f"share has the tag {_shown(tag)}")
        if driver not in ("virtiofs", "9p", "agent"):
            raise ProtocolError(f"share has the driver {_shown(driver)}")
        token = _text(value, "token") if "token" in value else ""
        return cls(tag, _text(value, "path"), _boolean(value, "read_only"), driver, token)


@dataclass(frozen=True)
class WantShares:
    """Guest to host, after hello: this engine can have folders, and asks for them."""

    def to_json(self) -> dict[str, Any]:
        return {"type": "want_shares"}


@dataclass(frozen=True)
class Shares:
    """Host to guest, the answer to ``want_shares`` and whenever they change: the folders shall be exactly these."""

    id: int
    shares: tuple[SharedFolder, ...]
    windows: bool = False
    fold_case: bool = False
    lost: tuple[str, ...] = ()
    """Tags of those whose server has ended: what is mounted of them answers nothing any more, and goes, whoever uses it."""
    sockets: tuple[str, ...] = ()
    """Paths of the host's computer at which this engine answers there: in a container they mean the engine's own socket."""
    machine: str = ""
    """What the user calls this engine's machine, for commands that are proposed; "" when that is not known."""
    listed: tuple[str, ...] = ()
    """The folders of its setting, as the user wrote them."""

    def to_json(self) -> dict[str, Any]:
        shares = [share.to_json() for share in self.shares]
        return {
            "type": "shares", "id": self.id, "shares": shares, "windows": self.windows, "fold_case": self.fold_case,
            "lost": [*self.lost], "sockets": [*self.sockets],
            "machine": self.machine, "listed": [*self.listed],
        }  # fmt: skip


@dataclass(frozen=True)
class Shared:
    """Guest to host, the answer to ``shares``: what went wrong, by tag, and names of containers because of which nothing was done."""

    id: int
    errors: dict[str, str]
    in_use: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        errors = {tag: error[:_MAX_TEXT] for tag, error in self.errors.items()}
        return {"type": "shared", "id": self.id, "errors": errors, "in_use": [name[:255] for name in self.in_use[:64]]}


HostMessage = Hello | Lost | News | Reply | Time | Shutdown | Shares | Changes
GuestMessage = (
    Ready | AskTime | Sync | Publish | Unpublish | Stopping | Activity | WantShares | Shared | Watch | Changed
)


def parse_host_message(message: Mapping[str, Any]) -> HostMessage:
    """What the host sent, checked.

    Raises:
        ProtocolError: unknown type, or a field that is missing or wrong.
    """
    match message["type"]:
        case "hello":
            outside = _outside(message) if "outside" in message else None
            return Hello(
                _integer(message, "version", 1, 1 << 31),
                _integer(message, "unix_ns", 0, 1 << 63),
                outside,
                "answers_time" in message and _boolean(message, "answers_time"),
            )
        case "outside":
            return News(_outside(message))
        case "reply":
            number = _integer(message, "id", 0, 1 << 53)
            if _boolean(message, "ok"):
                return Reply(number, ok=True, ports=_ports(message))
            return Reply(number, ok=False, error=_text(message, "error"), in_use=_boolean(message, "in_use", False))
        case "time":
            question = _integer(message, "id", 0, 1 << 53) if "id" in message else None
            return Time(_integer(message, "unix_ns", 0, 1 << 63), question)
        case "lost":
            return Lost(_ports(message))
        case "shutdown":
            return Shutdown(_integer(message, "timeout_s", 0, 3600))
        case "changes":
            return Changes(
                _integer(message, "id", 0, 1 << 53),
                _absolute(message.get("path")),
                _text(message, "token"),
                _changes(message),
                _boolean(message, "lost"),
            )
        case "shares":
            return Shares(
                _integer(message, "id", 0, 1 << 53),
                tuple(SharedFolder.from_json(share) for share in _list(message, "shares", MAX_SHARES)),
                _boolean(message, "windows", False),
                _boolean(message, "fold_case", False),
                tuple(_text({"tag": tag}, "tag") for tag in _list({"lost": [], **message}, "lost", MAX_SHARES)),
                tuple(
                    _text({"path": path}, "path") for path in _list({"sockets": [], **message}, "sockets", MAX_SOCKETS)
                ),
                _text({"machine": "", **message}, "machine"),
                tuple(_text({"path": path}, "path") for path in _list({"listed": [], **message}, "listed", MAX_SHARES)),
            )
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
        case "ask_time":
            return AskTime(_integer(message, "id", 0, 1 << 53))
        case "sync":
            return Sync(_integer(message, "id", 0, 1 << 53), _ports(message))
        case "publish":
            port = PortForward.from_json(message)
            return Publish(_integer(message, "id", 0, 1 << 53), port, _boolean(message, "keep", False))
        case "unpublish":
            return Unpublish(_integer(message, "id", 0, 1 << 53), PortForward.from_json(message))
        case "stopping":
            return Stopping()
        case "activity":
            level = message.get("level")
            if level not in ("busy", "running", "idle"):
                raise ProtocolError(f"level is {_shown(level)}, not busy, running or idle")
            return Activity(level)
        case "watch":
            return Watch(_watched(message))
        case "changed":
            return Changed(_integer(message, "id", 0, 1 << 53))
        case "want_shares":
            return WantShares()
        case "shared":
            errors = message.get("errors")
            if not isinstance(errors, dict) or len(errors) > 2 * MAX_SHARES:
                raise ProtocolError(f"errors is {_shown(errors)}, not an object of texts by tag")
            in_use = tuple(_text({"name": name}, "name") for name in _list(message, "in_use", 64))
            found = {tag[:31]: _text(errors, tag) for tag in errors}
            return Shared(_integer(message, "id", 0, 1 << 53), found, in_use)
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


def _outside(message: Mapping[str, Any]) -> Outside:
    try:
        return Outside.from_json(message.get("outside"))
    except ValueError as error:
        raise ProtocolError(f"outside: {error}") from None


def _list(message: Mapping[str, Any], key: str, most: int) -> list[Any]:
    value = message.get(key)
    if not isinstance(value, list) or len(value) > most:
        raise ProtocolError(f"{key} is {_shown(value)}, not a list of at most {most} {key}")
    return value


def _ports(message: Mapping[str, Any]) -> tuple[PortForward, ...]:
    return tuple(PortForward.from_json(port) for port in _list(message, "ports", MAX_PORTS))


def _watched(message: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(_absolute(path) for path in _list(message, "paths", MAX_WATCHED))


def watchable(paths: Iterable[str]) -> tuple[str, ...]:
    """Of paths in the guest, those that a ``watch`` can carry: names may be no UTF-8, and paths longer than one of a message."""
    kept: list[str] = []
    room = MAX_FRAME - _MAX_TEXT
    for path in paths:
        try:
            size = len(json.dumps(_absolute(path), ensure_ascii=False).encode()) + 1
        except (ProtocolError, UnicodeEncodeError):
            continue
        if len(kept) < MAX_WATCHED and size <= room:
            kept.append(path)
            room -= size
    return tuple(kept)


def _changes(message: Mapping[str, Any]) -> tuple[Change, ...]:
    return tuple(Change.from_json(change) for change in _list(message, "changes", MAX_CHANGES))


def _absolute(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.startswith("/") or not _plain(value[1:]):
        raise ProtocolError(f"path is {_shown(value)}, not an absolute path without . and ..")
    return value


def _below(message: Mapping[str, Any], key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not _plain(value):
        raise ProtocolError(f"{key} is {_shown(value)}, not a path below a folder")
    return value


def _plain(path: str) -> bool:
    """Whether ``path`` is "" or names between slashes, none of which leads elsewhere."""
    return not path or ("\0" not in path and all(name not in ("", ".", "..") for name in path.split("/")))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
