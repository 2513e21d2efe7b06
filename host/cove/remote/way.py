"""The way to a host, as the user's ~/.ssh/config has it (ssh_config(5)): name, port, user, keys, and what is between. That of the whole
computer (/etc/ssh/ssh_config) is not read.
"""

from __future__ import annotations

import getpass
import glob
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import paramiko

from cove.errors import RemoteError
from cove.machine.remote import Address, address
from cove.remote import trust

PORT = 22
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_MAX_DEPTH = 16
"""Of files that include others, as ssh(1) has it."""
_SETTING = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.*?)\s*")


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
    known_files: tuple[Path, ...]
    """Those that have keys of hosts."""


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
        _known_files(said.get("userknownhostsfile")),
    )  # fmt: skip


def _lookup(host: str) -> dict[str, str]:
    if not config_file().exists():
        return {}
    text = "\n".join(_expanded(config_file(), "", 0))
    try:
        found: dict[str, str] = paramiko.SSHConfig.from_text(text).lookup(host)
    except Exception as error:  # of paramiko's many, and its optional parts' (`Match exec`)
        raise RemoteError(
            f"{config_file()} has something that Cove does not understand: {error or type(error).__name__}",
            "`Match exec` and `CanonicalizeHostname` are of ssh's own: write what is for this host in a `Host` section",
        ) from error
    return found


def _expanded(file: Path, section: str, depth: int) -> list[str]:
    """Its lines, with those of the files that it includes in their places, which paramiko passes over.

    Args:
        section: what has to match for any of it to count: criteria of `Match`; "" for nothing.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise RemoteError(f"{file} cannot be read: {error}") from error
    lines, current = [_match(section)] if section else [], section
    for line in text.splitlines():
        found = _SETTING.fullmatch(line)
        name, value = (found[1].lower(), found[2]) if found else ("", "")
        if name == "include":
            if depth == _MAX_DEPTH:
                raise RemoteError(f"{file} includes files that include files, more than {_MAX_DEPTH} deep")
            for one in _included(file, value):
                lines += [*_expanded(one, current, depth + 1), _match(current)]
        elif name in ("host", "match"):
            criteria = f"originalhost {shlex.quote(','.join(_words(file, value)))}" if name == "host" else value
            criteria = re.sub(r"(^|\s+)all$", "", criteria)  # which stands alone, and says nothing
            current = f"{section} {criteria}".strip()
            lines.append(_match(current) if section else line)
        else:
            lines.append(line)
    return lines


def _match(section: str) -> str:
    return f"Match {section or 'all'}"


def _included(file: Path, patterns: str) -> list[Path]:
    found: list[Path] = []
    for pattern in _words(file, patterns):
        where = Path(pattern).expanduser()
        found += map(Path, sorted(glob.glob(str(config_file().parent / where))))  # noqa: PTH207  (a Path's takes .hidden ones)
    return [one for one in found if one.is_file()]


def _words(file: Path, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise RemoteError(f"{file} cannot be read: {text!r}: {error}") from None


def _known_files(said: str | None) -> tuple[Path, ...]:
    """A name with something of ssh's own in it (%h) is no file that there is."""
    if said is None:
        return tuple(trust.known_files())
    own = [Path(one).expanduser() for one in _words(config_file(), said) if one.lower() != "none"]
    return (*own, trust.OF_ALL)


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
