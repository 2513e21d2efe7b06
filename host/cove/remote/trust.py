"""Who a host is: its key, as it was shown when the machine was made, or as the user's known_hosts has it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import paramiko

from cove.errors import RemoteError
from cove.machine.remote import fingerprint

_RSA = ("rsa-sha2-512", "rsa-sha2-256")


class UnknownHost(RemoteError):
    """A host whose key nobody has vouched for yet. `key` is what it shows: its kind and base64."""

    def __init__(self, message: str, hint: str, key: str) -> None:
        super().__init__(message, hint)
        self.key = key


def as_text(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"


def kinds(key: str) -> tuple[str, ...]:
    """The algorithms by which a host shows that it has a key of this kind."""
    kind = key.split()[0]
    return _RSA if kind == "ssh-rsa" else (kind,)


def known_files() -> list[Path]:
    own = Path.home() / ".ssh"
    return [own / "known_hosts", own / "known_hosts2", Path("/etc/ssh/ssh_known_hosts")]


def known(alias: str, files: Iterable[Path] | None = None) -> list[str]:
    """The keys that known_hosts has of a host. A line with @revoked or @cert-authority is not understood, and passed over."""
    found = []
    for file in known_files() if files is None else files:
        try:
            lines = file.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        hosts = paramiko.HostKeys()
        for line in lines:
            if not line.strip() or line.lstrip().startswith(("#", "@")):
                continue
            try:
                entry = paramiko.hostkeys.HostKeyEntry.from_line(line)
            except Exception:
                continue
            if entry is not None:
                hosts._entries.append(entry)  # type: ignore[attr-defined]
        if (keys := hosts.lookup(alias)) is not None:
            found += [as_text(key) for key in keys.values()]
    return found


def changed(host: str, expected: str, shown: str, way_out: str) -> RemoteError:
    return RemoteError(
        f"{host} shows another host key than before: {fingerprint(shown)}, and not {fingerprint(expected)}",
        "either it was installed anew, or somebody else answers in its place. Ask whoever runs it for its fingerprint"
        f" (there: ssh-keygen -lf /etc/ssh/ssh_host_{_file(shown)}_key.pub). {way_out}",
    )


def _file(key: str) -> str:
    kind = key.split()[0]
    return "ed25519" if kind.endswith("ed25519") else "rsa" if kind.endswith("rsa") else "ecdsa"
