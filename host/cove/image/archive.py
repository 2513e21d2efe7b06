"""Debian's signed index: which packages there are, and how to know them.

InRelease is verified with the keys that Cove carries; it vouches for the Packages file by SHA-256, which vouches for the packages.
Source: the Debian repository format (wiki.debian.org/DebianRepository/Format), and Debian policy 5.6.12 for versions.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cmp_to_key
from pathlib import Path

from cove.errors import CoveError

MAX_RELEASE = 2 << 20
"""Bytes of an InRelease file at most; Debian's has 140 KB."""


@dataclass(frozen=True, slots=True)
class Package:
    """One version of a package in an archive ("debian" or "debian-security"); `filename` is relative to the archive's base URL."""

    name: str
    version: str
    archive: str
    filename: str
    size: int
    sha256: str
    depends: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """A verified InRelease: size and SHA-256 of each index file by its path."""

    codename: str
    date: str
    files: Mapping[str, tuple[int, str]]


def load_keys(directory: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Read the armoured certificates of `names` and return them by their fingerprint (lower-case hexadecimal)."""
    import pysequoia

    keys: dict[str, bytes] = {}
    for name in names:
        data = (directory / name).read_bytes()
        keys[pysequoia.Cert.from_bytes(data).fingerprint] = data
    return keys


def verify_release(signed: bytes, codename: str, keys: Mapping[str, bytes], now: datetime | None = None) -> Release:
    """Check the inline-signed `signed` InRelease and return what it says.

    At least one signature must be good and made by one of `keys`. Raises `CoveError` when there is none, when the file is about
    another release than `codename`, or when it has expired (somebody may be holding back newer ones).
    """
    import pysequoia

    certificates = [pysequoia.Cert.from_bytes(data) for data in keys.values()]
    what = f"the index of Debian's {codename}"
    try:
        verified = pysequoia.verify(bytes=signed, store=lambda _ids: certificates)
    except Exception as error:  # the library raises plain RuntimeError and its kin
        raise CoveError(f"{what} is not signed by Debian: {error}", _DISTRUST) from error
    signers = {signature.certificate.lower() for signature in verified.valid_sigs}
    if not signers & set(keys):
        raise CoveError(f"{what} is signed by {', '.join(sorted(signers)) or 'nobody'}, not by Debian", _DISTRUST)
    # Only what the signature covers is looked at: there may be more in the file around it.
    text = bytes(verified.bytes or b"").decode("utf-8")
    fields, files = _parse_release(text)
    if fields.get("Codename") != codename:
        raise CoveError(f"the mirror gave the index of {fields.get('Codename')} for that of {codename}", _DISTRUST)
    if until := fields.get("Valid-Until"):
        expiry = parsedate_to_datetime(until)
        if expiry.tzinfo is None:
            expiry = expiry.replace(tzinfo=UTC)
        if expiry < (now or datetime.now(UTC)):
            raise CoveError(
                f"{what} was only valid until {until}",
                "the mirror is out of date, or this computer's clock is wrong; set COVE_DEBIAN_MIRROR to another mirror",
            )
    return Release(codename, fields.get("Date", ""), files)


_DISTRUST = "do not trust what this mirror gives; set COVE_DEBIAN_MIRROR to another one"


def _parse_release(text: str) -> tuple[dict[str, str], dict[str, tuple[int, str]]]:
    fields: dict[str, str] = {}
    files: dict[str, tuple[int, str]] = {}
    current = ""
    for line in text.splitlines():
        if line.startswith(" "):
            parts = line.split()
            if current == "SHA256" and len(parts) == 3:
                files[parts[2]] = (int(parts[1]), parts[0].lower())
        else:
            current, _, value = line.partition(":")
            fields[current] = value.strip()
    return fields, files


def parse_packages(compressed: bytes, archive: str) -> Iterator[Package]:
    """Yield the packages of a Packages.xz file. Raises `CoveError` when it is damaged."""
    try:
        text = lzma.decompress(compressed).decode("utf-8")
        for stanza in text.split("\n\n"):
            fields = dict(re.findall(r"^(Package|Version|Filename|Size|SHA256|Depends): (.*)$", stanza, re.MULTILINE))
            if fields:
                yield Package(
                    fields["Package"],
                    fields["Version"],
                    archive,
                    fields["Filename"],
                    int(fields["Size"]),
                    fields["SHA256"].lower(),
                    fields.get("Depends", ""),
                )
    except (lzma.LZMAError, ValueError, KeyError) as error:
        raise CoveError(f"the index of packages of {archive} cannot be read: {error!r}") from error


def newest(packages: Sequence[Package]) -> Package:
    """The package with the highest version."""
    return max(packages, key=cmp_to_key(_by_version))


def _by_version(left: Package, right: Package) -> int:
    return compare_versions(left.version, right.version)


def compare_versions(left: str, right: str) -> int:
    """Compare two package versions as Debian policy 5.6.12 says: negative, zero or positive."""
    for a, b in zip(_split_version(left), _split_version(right), strict=True):
        if result := _compare_part(a, b):
            return result
    return 0


def _split_version(version: str) -> tuple[str, str, str]:
    epoch, separator, rest = version.partition(":")
    if not separator:
        epoch, rest = "0", version
    upstream, separator, revision = rest.rpartition("-")
    return (epoch, upstream, revision) if separator else (epoch, rest, "0")


def _compare_part(left: str, right: str) -> int:
    # Text and numbers alternate, text first; a missing number is 0.
    split = re.compile(r"(\D*)(\d*)")
    a, b = split.findall(left), split.findall(right)
    for index in range(max(len(a), len(b))):
        text_a, number_a = a[index] if index < len(a) else ("", "")
        text_b, number_b = b[index] if index < len(b) else ("", "")
        key_a = (_text_key(text_a), int(number_a or 0))
        key_b = (_text_key(text_b), int(number_b or 0))
        if key_a != key_b:
            return -1 if key_a < key_b else 1
    return 0


def _text_key(text: str) -> list[int]:
    # "~" sorts before the end, letters before everything else.
    order = [-1 if char == "~" else ord(char) if char.isalpha() else ord(char) + 256 for char in text]
    return [*order, 0]
