"""A machine whose engine runs on another computer: where that is, and by which key it is known. Kept in a file of the machine's folder.

What is written with `--ssh` is as ssh(1) has it: ``user@host``, ``user@host:port``, ``ssh://user@host:port``, or a name of ~/.ssh/config;
an IPv6 address stands in brackets where a port follows.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from cove.errors import CoveError, SettingsError
from cove.machine.files import write_whole
from cove.machine.paths import MachinePaths

ENGINES = ("auto", "cove", "docker", "podman")
COVE = "cove"
_ADDRESS = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@/\s:]+)@)?(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[\w.-]+))(?::(?P<port>[0-9]{1,5}))?/?",
    re.ASCII,
)
_BARE_V6 = re.compile(r"(?:(?P<user>[^@/\s:]+)@)?(?P<v6>[0-9A-Fa-f]*(?::[0-9A-Fa-f.]*){2,}(?:%[\w.-]+)?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a host is reached; an empty `user` or `port` 0: as ssh's configuration has it."""

    host: str
    user: str = ""
    port: int = 0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host and self.port else self.host
        return f"{self.user}@{host}".removeprefix("@") + (f":{self.port}" if self.port else "")


def address(text: str) -> Address:
    """Raises `CoveError` for what is none."""
    found = _ADDRESS.fullmatch(text) or _BARE_V6.fullmatch(text)
    parts = found.groupdict() if found is not None else {}
    host, user, port = parts.get("v6") or parts.get("host") or "", parts.get("user") or "", int(parts.get("port") or 0)
    if not host or host.startswith("-") or user.startswith("-") or port >= 1 << 16 or parts.get("port") == "0":
        raise CoveError(
            f"{text!r} is no address of a host", "write user@host, user@host:port, or a name of your ~/.ssh/config"
        )
    return Address(host, user, port)


@dataclass(frozen=True, slots=True)
class Remote:
    """`host_key` is what the host showed at `init`: its kind and base64. `engine` is "cove", "docker" or "podman"; of the latter two
    `socket` is where it listens there. `instance` is what our own engine is called there, and nobody else's is."""

    address: Address
    host_key: str
    engine: str
    socket: str = ""
    instance: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether its engine is one that Cove has installed there."""
        return self.engine == COVE




def save(paths: MachinePaths, remote: Remote) -> None:
    write_whole(paths.remote, (json.dumps(asdict(remote), indent=2) + "\n").encode(), 0o600)


def load(paths: MachinePaths) -> Remote | None:
    """None for a machine that is a VM. Raises `SettingsError` when the file cannot be read."""
    try:
        kept = json.loads(paths.remote.read_text("utf-8"))
        return Remote(**{**kept, "address": Address(**kept["address"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{paths.remote} cannot be read: {error}",
            f"remove the machine and make it anew: cove machine rm --force {paths.name}",
        ) from error


def refuse(paths: MachinePaths, what: str, hint: str = "") -> None:
    """Raises `CoveError` when the machine is another computer, for which `what` is not."""
    if paths.remote.exists():
        raise CoveError(f"{what} is not for the machine {paths.name}, whose engine runs on another computer", hint)
