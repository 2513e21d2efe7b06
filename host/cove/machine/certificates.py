"""Whom this computer trusts, for the machine: its store's certificates that others have not anyway, and those of the settings."""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import os
import re
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from coved.outside import AUTHORITIES_MAX

from cove.errors import SettingsError
from cove.machine.settings import Settings

ROOT = Path("/")
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",
)
_DISTRIBUTIONS = (
    "usr/share/ca-certificates/mozilla/*.crt",  # Debian, Alpine
    "usr/share/ca-certificates/trust-source/*.p11-kit",  # Arch
    "usr/share/pki/ca-trust-source/*.p11-kit",  # Fedora; anchors of administrators are elsewhere
)
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_STORE_MAX, _FILE_MAX = 16 << 20, 1 << 20
_SECURITY_S = 10.0
_KEYCHAINS = ("/Library/Keychains/System.keychain",)
_SERVERS = "1.3.6.1.5.5.7.3.1"
"""id-kp-serverAuth (RFC 5280, section 4.2.1.12)."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """`pem` has the certificates as the machine is told them; `left_out` are texts for people, of what it should have had as well."""

    pem: str
    left_out: tuple[str, ...] = ()


def trusted(settings: Settings) -> Trusted:
    """What the machine is to trust beside Mozilla's, which it has. Raises `SettingsError` that names the file."""
    own = [one for text in settings.extra_certificates for one in of_file(Path(text).expanduser())]
    store: list[bytes] = []
    left_out = []
    if settings.certificates == "system":
        try:
            store = beyond_mozilla(of_system())
        except (OSError, subprocess.SubprocessError, ssl.SSLError) as error:
            left_out.append(f"this computer's store cannot be read: {error}")
    parts = [ssl.DER_cert_to_PEM_cert(one) for one in dict.fromkeys([*own, *store])]
    fit = sum(size <= AUTHORITIES_MAX for size in itertools.accumulate(map(len, parts)))
    if fit < len(parts):
        left_out.append(f"of {len(parts)} certificates it gets {fit}: more are over {AUTHORITIES_MAX >> 10} KiB")
    return Trusted("".join(parts[:fit]), tuple(left_out))


def of_file(file: Path) -> list[bytes]:
    """All certificates of a PEM file, or the one of a DER file. Raises `SettingsError` that names it."""
    hint = "it is to have certificates as PEM: -----BEGIN CERTIFICATE----- ...; see: cove config get extra_certificates"
    try:
        with file.open("rb") as stream:
            data = stream.read(_FILE_MAX + 1)
    except OSError as error:
        raise SettingsError(f"extra_certificates: {file} cannot be read: {error.strerror}", hint) from None
    if len(data) > _FILE_MAX:
        raise SettingsError(f"extra_certificates: {file} has over {_FILE_MAX >> 10} KiB", hint)
    certificates = []
    for number, block in enumerate(_BLOCK.findall(data) or ([] if b"-----BEGIN" in data else [None]), 1):
        one = data if block is None else _decoded(block)
        if one is None or _problem(one):
            what = "it is no certificate" if block is None else f"certificate {number} is damaged"
            raise SettingsError(f"extra_certificates: {file}: {what}", hint)
        certificates.append(one)
    if not certificates:
        raise SettingsError(f"extra_certificates: {file} has no certificates", hint)
    return certificates


def beyond_mozilla(certificates: Iterable[bytes]) -> list[bytes]:
    """Those that are not of the list which the machine's system has, too; what is none is left out."""
    import certifi

    known = {hashlib.sha256(one).digest() for one in blocks(certifi.contents().encode())}
    if sys.platform == "linux":  # what a distribution has of an earlier list of Mozilla's is not its user's word
        for pattern in _DISTRIBUTIONS:
            for file in ROOT.glob(pattern):
                known |= {hashlib.sha256(one).digest() for one in blocks(file.read_bytes())}
    return [one for one in certificates if hashlib.sha256(one).digest() not in known and not _problem(one)]


def blocks(data: bytes) -> Iterator[bytes]:
    """The certificates of a text in PEM; what cannot be decoded is left out."""
    for block in _BLOCK.findall(data):
        if one := _decoded(block):
            yield one


def of_system(platform: str = sys.platform) -> list[bytes]:
    """What this computer trusts. Raises `OSError`, `subprocess.SubprocessError`."""
    if platform == "win32":
        return _of_windows()
    return _of_macos() if platform == "darwin" else _of_bundle()


def _of_bundle() -> list[bytes]:
    for name in (os.environ.get("SSL_CERT_FILE", ""), *BUNDLES):
        if name and Path(name).is_file():
            with Path(name).open("rb") as stream:
                return [*blocks(stream.read(_STORE_MAX))]
    return []


def _of_windows() -> list[bytes]:
    if sys.platform != "win32":
        return []
    return [
        data
        for data, encoding, trust in ssl.enum_certificates("ROOT")
        if encoding == "x509_asn" and (trust is True or (isinstance(trust, frozenset | set) and _SERVERS in trust))
    ]


def _of_macos() -> list[bytes]:
    """Those of the user's keychains and the system's; that one is in a keychain does not say that it is trusted."""
    found: list[bytes] = []
    for keychain in ((), *((one,) for one in _KEYCHAINS)):
        done = subprocess.run(
            ["/usr/bin/security", "find-certificate", "-a", "-p", *keychain],
            capture_output=True, timeout=_SECURITY_S, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        found += blocks(done.stdout)
    return [one for one in beyond_mozilla(dict.fromkeys(found)) if _macos_trusts(one)]


def _macos_trusts(certificate: bytes) -> bool:
    with tempfile.NamedTemporaryFile(suffix=".cer") as file:
        file.write(certificate)
        file.flush()
        done = subprocess.run(
            ["/usr/bin/security", "verify-cert", "-l", "-L", "-p", "basic", "-c", file.name],
            capture_output=True, timeout=_SECURITY_S, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    return done.returncode == 0


def _decoded(block: bytes) -> bytes | None:
    try:
        return base64.b64decode(b"".join(block.split()), validate=True)
    except binascii.Error:
        return None


def _problem(certificate: bytes) -> str:
    """ "" for what TLS can take."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate)
    except (ssl.SSLError, ValueError) as error:
        return str(error) or "damaged"
    return ""
