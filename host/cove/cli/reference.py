"""Names of images, checked before the engine hears of them, in the words of docker's client (the grammar of
github.com/distribution/reference).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cove.cli.errors import CliError

_HUB = "docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"\w[\w.-]{0,127}"
_MOST = 255
_DIGESTS = {"sha256": 64, "sha384": 96, "sha512": 128}


class Reference(NamedTuple):
    """A name taken apart; `tag` and `digest` are empty where there is none."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The whole name without tag and digest: docker.io/library/busybox."""
        return f"{self.domain}/{self.path}"

    @property
    def bare(self) -> bool:
        """Whether there is neither a tag nor a digest."""
        return not self.tag and not self.digest

    @property
    def label(self) -> str:
        """What the API calls the tag: the digest where there is one."""
        return self.digest or self.tag

    def tagged(self) -> Reference:
        """With the default tag where nothing else is said."""
        return self._replace(tag="latest") if self.bare else self

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def check_reference(reference: str) -> None:
    """Raise `CliError` for a name that no image can have."""
    parse_reference(reference)


def parse_reference(reference: str) -> Reference:
    """Raises `CliError` for a name that no image can have."""
    if re.fullmatch(r"[a-f0-9]{64}", reference):
        raise CliError(f"invalid repository name ({reference}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(reference)
    remote = remainder.partition(":")[0]
    if remote != remote.lower():
        raise CliError(f"invalid reference format: repository name ({remote}) must be lowercase")
    named, at, digest = remainder.partition("@")
    path, colon, tag = named.partition(":")
    if (
        not re.fullmatch(rf"{_COMPONENT}(?:/{_COMPONENT})*", path)
        or (colon and not re.fullmatch(_TAG, tag, re.ASCII))
        or (at and not _is_digest(digest))
        or (domain != _HUB and not _is_domain(domain))
    ):
        raise CliError("invalid reference format")
    if len(path) > _MOST:
        raise CliError(f"repository name must not be more than {_MOST} characters")
    if at:
        _check_digest(digest)
    return Reference(domain, path, tag, digest)


def _split_domain(reference: str) -> tuple[str, str]:
    """(registry, the rest) of a name; the first word is a registry when it cannot be anything else."""
    first, slash, rest = reference.partition("/")
    if not slash or (first != "localhost" and not set(first) & {".", ":"} and first == first.lower()):
        domain, rest = _HUB, reference
    else:
        domain = _HUB if first == "index.docker.io" else first
    return domain, rest if domain != _HUB or "/" in rest else f"library/{rest}"


def _is_domain(domain: str) -> bool:
    part = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
    return re.fullmatch(rf"(?:{part}(?:\.{part})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?", domain) is not None


def _is_digest(digest: str) -> bool:
    word = "[A-Za-z][A-Za-z0-9]*"
    return re.fullmatch(rf"{word}(?:[-_+.]{word})*:[0-9a-fA-F]{{32,}}", digest) is not None


def _check_digest(digest: str) -> None:
    algorithm, _, value = digest.partition(":")
    length = _DIGESTS.get(algorithm)
    if length is None:
        known = algorithm == algorithm.lower()
        raise CliError("unsupported digest algorithm" if known else "invalid checksum digest format")
    if len(value) != length:
        raise CliError("invalid checksum digest length")
    if value != value.lower():
        raise CliError("invalid checksum digest format")
