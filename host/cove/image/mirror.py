"""Where Debian's archive is: what the user says, else what the computer's own apt uses, else Debian itself."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cove.errors import CoveError
from cove.machine.paths import config_dir

APT_DIRECTORY = Path("/etc/apt")
_RELEASES = {
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "sid",
    "unstable",
}
_SECURITY_SUFFIXES = ("-security", "/updates")


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Base URLs, without a trailing slash, of the archive and of its security updates."""

    debian: str
    debian_security: str

    def base(self, archive: str) -> str:
        """The base URL of the archive that the recipe calls `archive`."""
        return {"debian": self.debian, "debian-security": self.debian_security}[archive]


PUBLIC = Mirrors("http://ftp.debian.org/debian", "http://security.debian.org/debian-security")
"""Debian's own, for a Mac, Windows, and other Linux systems. Who sends the packages need not be trusted: their signatures are looked at."""


def find(apt_directory: Path = APT_DIRECTORY) -> Mirrors:
    """Return the mirrors: `COVE_DEBIAN_MIRROR`, else `vm-image.toml` in the configuration, else apt's configuration, else `PUBLIC`.

    The security archive is `COVE_DEBIAN_SECURITY_MIRROR` (`debian_security_mirror`), else it is expected beside the other, with
    `-security` added to its name, as mirrors have it. Raises `CoveError` for a setting that cannot be one.
    """
    settings = _settings()
    debian = os.environ.get("COVE_DEBIAN_MIRROR") or settings.get("debian_mirror", "")
    security = os.environ.get("COVE_DEBIAN_SECURITY_MIRROR") or settings.get("debian_security_mirror", "")
    if not debian:
        for uri, suite in _apt_sources(apt_directory):
            if suite.endswith(_SECURITY_SUFFIXES):
                security = security or uri
            else:
                debian = debian or uri
    if not debian:
        debian, security = PUBLIC.debian, security or PUBLIC.debian_security
    return named(debian, security)


def named(debian: str, security: str = "") -> Mirrors:
    """The mirror of that URL; its security archive is at `security`, or beside it. Raises `CoveError` for what is no URL."""
    debian = _checked(debian)
    return Mirrors(debian, _checked(security) if security else f"{debian}-security")


def _checked(url: str) -> str:
    if not re.match(r"https?://[^/\s]+", url):
        raise CoveError(
            f"{url!r} cannot be a Debian mirror: it is no http:// or https:// URL", "set COVE_DEBIAN_MIRROR"
        )
    return url.rstrip("/")


def _settings() -> dict[str, str]:
    import tomllib

    path = config_dir() / "vm-image.toml"
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CoveError(f"{path} cannot be read: {error}", "correct it, or remove it") from error
    unknown = set(values) - {"debian_mirror", "debian_security_mirror"}
    if unknown or not all(isinstance(value, str) for value in values.values()):
        raise CoveError(f"{path} may have debian_mirror and debian_security_mirror, both strings, and nothing else")
    return values


def _apt_sources(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield (URI, suite) of each of Debian's own sources that apt uses (sources.list(5))."""
    lists = [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))]
    for path in lists:
        if path.suffix not in (".list", ".sources"):
            continue
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            continue
        for uri, suite, components in _deb822(text) if path.suffix == ".sources" else _one_line(text):
            release = suite.removesuffix("/updates").partition("-")[0]
            if uri.startswith(("http://", "https://")) and release in _RELEASES and "main" in components:
                yield uri, suite


def _one_line(text: str) -> Iterator[tuple[str, str, list[str]]]:
    for line in text.splitlines():
        line = re.sub(r"\[[^]]*\]", " ", line)
        try:
            fields = shlex.split(line, comments=True)
        except ValueError:
            continue
        if len(fields) >= 4 and fields[0] == "deb":
            yield fields[1], fields[2], fields[3:]


def _deb822(text: str) -> Iterator[tuple[str, str, list[str]]]:
    text = re.sub(r"(?m)^#.*\n?", "", text)
    for stanza in re.split(r"\n\s*\n", text):
        fields = {
            match[1].lower(): match[2].split()
            for match in re.finditer(r"(?m)^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", stanza)
        }
        if "deb" not in fields.get("types", []) or fields.get("enabled") == ["no"]:
            continue
        for uri in fields.get("uris", []):
            for suite in fields.get("suites", []):
                yield uri, suite, fields.get("components", [])
