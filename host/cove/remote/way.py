"""The way to a host, as the user's ~/.ssh/config has it (ssh_config(5)): name, port, user, keys, and what is between."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from pathlib import Path

import paramiko

from cove.errors import RemoteError
from cove.machine.remote import Address, address

PORT = 22
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True, slots=True)
class Way:
    host: str
    """What is connected to."""
    port: int
    user: str
    alias: str
    """By which known_hosts has it."""
    keys: tuple[Path, ...]
    """Files with private keys, which may not be there."""
    only_these: bool
    """Of an SSH agent's keys, these alone (IdentitiesOnly)."""
    agent: str
    """The SSH agent's socket; "" for none."""
    jumps: tuple[Address, ...]
    command: str
    """A program whose input and output are the connection (ProxyCommand); "" for none."""


def config_file() -> Path:
    return Path.home() / ".ssh/config"


def find(to: Address) -> Way:
    """Raises `RemoteError` for a configuration that cannot be read."""
    said = _lookup(to.host)
    host = said.get("hostname", to.host)
    port = to.port or _number(said.get("port"), PORT)
    keys = tuple(Path(one).expanduser() for one in said.get("identityfile", ()) if one != "none")
    alias = said.get("hostkeyalias") or (host if port == PORT else f"[{host}]:{port}")
    jump, command = said.get("proxyjump", "none"), said.get("proxycommand", "none")
    own = Path.home() / ".ssh"
    return Way(
        host, port, to.user or said.get("user") or getpass.getuser(), alias,
        keys or tuple(own / name for name in _DEFAULT_KEYS), said.get("identitiesonly", "no").lower() == "yes",
        _agent(said.get("identityagent", "SSH_AUTH_SOCK")),
        tuple(address(one.strip()) for one in jump.split(",")) if jump.lower() != "none" else (),
        "" if command.lower() == "none" or jump.lower() != "none" else command,
    )  # fmt: skip


def _lookup(host: str) -> dict[str, str]:
    try:
        text = config_file().read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RemoteError(f"{config_file()} cannot be read: {error}") from error
    try:
        found: dict[str, str] = paramiko.SSHConfig.from_text(text).lookup(host)
    except Exception as error:  # of paramiko's many, and its optional parts' (`Match exec`)
        raise RemoteError(
            f"{config_file()} has something that Cove does not understand: {error or type(error).__name__}",
            "`Match exec` and `CanonicalizeHostname` are of ssh's own: write what is for this host in a `Host` section",
        ) from error
    return found


def _number(text: str | None, otherwise: int) -> int:
    try:
        return int(text) if text else otherwise
    except ValueError:
        raise RemoteError(f"{config_file()}: {text!r} is no port") from None


def _agent(said: str) -> str:
    if said.lower() == "none":
        return ""
    if said == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK", "")
    return os.environ.get(said[1:].strip("{}"), "") if said.startswith("$") else str(Path(said).expanduser())
