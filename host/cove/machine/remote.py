"""A machine whose engine runs on another computer: where that is, and by which key it is known. Kept in a file of the machine's folder.

What is written with `--ssh` is as ssh(1) has it: ``user@host``, ``user@host:port``, ``ssh://user@host:port``, or a name of ~/.ssh/config;
an IPv6 address stands in brackets where a port follows.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import json
import re
import shlex
import socket
from dataclasses import asdict, dataclass
from typing import Any

from coved.remote.places import KEPT, OF_THE_BOOT

from cove.errors import CoveError, SettingsError
from cove.machine.files import write_whole
from cove.machine.paths import MachinePaths

ENGINES = ("auto", "cove", "docker", "podman")
COVE = "cove"
_OF_ANY = frozenset({"bind_address"})
_OF_OURS = _OF_ANY | {
    "share_home", "shared_folders", "folder_owner", "insecure_registries", "registry_mirrors", "proxy", "http_proxy", "https_proxy",
    "no_proxy", "proxy_in_containers", "certificates", "extra_certificates", "certificates_in_containers", "ssh_agent",
}  # fmt: skip
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

    @property
    def by_ssh(self) -> str:
        """What a user types who wants a shell there: ssh(1) takes a port only in a URL, or as an option."""
        to = f"{self.user}@{self.host}".removeprefix("@")
        return shlex.join(["ssh", *(["-p", str(self.port)] if self.port else []), to])


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

    @property
    def places(self) -> tuple[str, str]:
        """Folders there that our own engine has: what it keeps, and what is of the host's boot."""
        return f"{KEPT}/{self.instance}", f"{OF_THE_BOOT}/{self.instance}"

    def counts(self, setting: str) -> bool:
        """Whether it means something for a machine of this kind."""
        return setting in (_OF_OURS if self.is_ours else _OF_ANY)

    def shown(self) -> dict[str, Any]:
        """What is told of such a machine whether it can be reached or not."""
        return {"host": str(self.address), "host_key": fingerprint(self.host_key), "engine": self.engine}


def fingerprint(key: str) -> str:
    """Of a key's kind and base64, as ssh-keygen(1) shows it."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


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


def label(paths: MachinePaths) -> str:
    """By which somebody on the other computer knows whose an engine is."""
    return f"machine {paths.name} of {getpass.getuser()}@{socket.gethostname()}"


def refuse_setting(paths: MachinePaths, setting: str) -> None:
    """Raises `SettingsError` for one that means nothing for the machine."""
    found = load(paths)
    if found is not None and not found.counts(setting):
        raise SettingsError(
            f"{setting} means nothing for the machine {paths.name}, whose engine ({found.engine}) runs on {found.address}",
            f"see what counts: cove config list{paths.option}",
        )


def refuse(paths: MachinePaths, what: str, hint: str = "") -> None:
    """Raises `CoveError` when the machine is another computer, for which `what` is not."""
    if paths.remote.exists():
        raise CoveError(f"{what} is not for the machine {paths.name}, whose engine runs on another computer", hint)
