"""Who a host is: its key, as it was shown when the machine was made, or as the user's known_hosts has it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import paramiko

from cove.errors import RemoteError
from cove.machine.remote import Address, fingerprint

OF_ALL = Path("/etc/ssh/ssh_known_hosts")
_REVOKED = "@revoked"
_RSA = ("rsa-sha2-512", "rsa-sha2-256")
KINDS = (("ssh-ed25519",), ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"), _RSA)
"""The algorithms by which a host shows that it has a key, for each kind of keys."""


class UnknownHost(RemoteError):
    """A host whose key nobody has vouched for yet. `key` is what it shows: its kind and base64.

    ``is_between``: it is on the way to another.
    """

    def __init__(self, host: Address, key: str, is_between: bool) -> None:
        given = "" if is_between else f"give it: --host-key {fingerprint(key)}; or "
        super().__init__(
            f"nobody has said yet that {host} is who it says: its {key.split()[0]} key is {fingerprint(key)}",
            f"compare it with what whoever runs it says, and {given}connect once with: {host.by_ssh}",
        )
        self.host = host
        self.key = key


def as_text(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"


def kinds(key: str) -> tuple[str, ...]:
    """The algorithms by which a host shows that it has a key of this kind."""
    kind = key.split()[0]
    return _RSA if kind == "ssh-rsa" else (kind,)


def known_files() -> list[Path]:
    own = Path.home() / ".ssh"
    return [own / "known_hosts", own / "known_hosts2", OF_ALL]


def known(alias: str, files: Iterable[Path] | None = None) -> list[str]:
    """The keys that known_hosts has of a host. Certificates' (@cert-authority) are not understood, and passed over."""
    listed = [*_listed(alias, files)]
    revoked = {key for marker, key in listed if marker == _REVOKED}
    return [key for marker, key in listed if not marker and key not in revoked]


def refuse_revoked(host: str, shown: str, alias: str, files: Iterable[Path] | None = None) -> None:
    """Raise `RemoteError` for a key that known_hosts says is to be trusted no more."""
    if (_REVOKED, shown) in _listed(alias, files):
        raise RemoteError(
            f"{host} shows the host key {fingerprint(shown)}, which your known_hosts has revoked",
            "whoever runs it is to give it another key",
        )


def _listed(alias: str, files: Iterable[Path] | None) -> Iterator[tuple[str, str]]:
    """The lines of a host: a marker or "", and the key (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
    for file in known_files() if files is None else files:
        try:
            lines = file.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        for line in lines:
            words = line.split()
            marker = words.pop(0) if words and words[0].startswith("@") else ""
            if len(words) < 3 or words[0].startswith("#"):
                continue
            try:
                if _is_of(alias.lower(), words[0]):
                    yield marker, as_text(paramiko.PKey.from_type_string(words[1], base64.b64decode(words[2])))
            except Exception:  # what is no key, in one of paramiko's many ways
                continue


def _is_of(host: str, patterns: str) -> bool:
    found = False
    for one in patterns.split(","):
        if one.startswith("|1|"):
            found = found or paramiko.HostKeys.hash_host(host, one) == one
            continue
        is_not, pattern = one.startswith("!"), one.removeprefix("!").lower()
        if re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), host):
            if is_not:
                return False
            found = True
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
