"""Image names (the grammar of the distribution project's ``reference`` package).

A *canonical* name is whole, ``docker.io/library/busybox:latest``; the *familiar* one is what people type,
``busybox:latest``.
"""

import re
from dataclasses import dataclass

from coved.errors import InvalidParameter
from coved.images.hub import INDEX_HOST

DEFAULT_DOMAIN = "docker.io"
_OFFICIAL = "library/"
_NAME_MAX = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_HOST = re.compile(_DOMAIN)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]{1,64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """``domain`` and ``path`` are never empty; ``tag`` and ``digest`` are "" when the text had none."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        return f"{self.domain}/{self.path}"

    @property
    def familiar_repository(self) -> str:
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        short = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in short else short

    def __str__(self) -> str:
        return self.repository + self._suffix()

    @property
    def familiar(self) -> str:
        return self.familiar_repository + self._suffix()

    def tagged(self) -> "Reference":
        """This name, with the tag ``latest`` when it has neither tag nor digest."""
        if self.tag or self.digest:
            return self
        return Reference(self.domain, self.path, "latest")

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Reads a familiar or canonical name; raises ``InvalidParameter`` in Docker's words."""
    if re.fullmatch(r"[0-9a-f]{64}", text):
        raise InvalidParameter(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    name, at, digest = text.partition("@")
    slash = name.rfind("/")
    colon = name.find(":", slash + 1)
    name, tag = (name[:colon], name[colon + 1 :]) if colon >= 0 else (name, "")
    domain, path = _split_domain(name)
    if path.lower() != path:  # whatever else is wrong
        raise InvalidParameter(f"invalid reference format: repository name ({path}) must be lowercase")
    if (at and not _DIGEST.fullmatch(digest)) or (colon >= 0 and not _TAG.fullmatch(tag)):
        raise InvalidParameter("invalid reference format")
    if not _PATH.fullmatch(path) or not _HOST.fullmatch(domain):
        raise InvalidParameter("invalid reference format")
    if len(path) > _NAME_MAX:
        raise InvalidParameter(f"repository name must not be more than {_NAME_MAX} characters")
    return Reference(domain, path, tag, digest)


def is_digest(text: str) -> bool:
    """Whether this is a whole ``sha256:`` digest."""
    return _DIGEST.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


def id_prefix(text: str) -> str:
    """The hex digits when this may be (the beginning of) an image id, else ""."""
    digits = text.removeprefix("sha256:")
    return digits if _HEX.fullmatch(digits) else ""


def _split_domain(name: str) -> tuple[str, str]:
    """The first part is a host only when it looks like one: a dot, a port, localhost, or upper case."""
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = first, rest
    if domain == INDEX_HOST:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return domain, path
