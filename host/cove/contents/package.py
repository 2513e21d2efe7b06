"""What is known of an image's contents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_TEXT = 1000
"""Characters of a name, a version or a licence; what is longer is nobody's."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def clean(text: str) -> str:
    """`text` without what a terminal could take for a command: images are other people's."""
    return _UNPRINTABLE.sub(" ", text[: 2 * MAX_TEXT]).strip()[:MAX_TEXT]


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """`kind` is the type of its package URL: "deb", "apk", "pypi" or "npm". `source` is what the distribution built it from, `licence` as
    its metadata state it; both may be unknown ("").
    """

    kind: str
    name: str
    version: str
    architecture: str = ""
    source: str = ""
    source_version: str = ""
    licence: str = ""

    @property
    def characters(self) -> int:
        """How many there are to keep."""
        return sum(
            map(len, (self.name, self.version, self.architecture, self.source, self.source_version, self.licence))
        )


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The file of the image that tells of a package, and the layer (its diff id) that brought the package."""

    path: str
    layer: str


@dataclass(frozen=True, slots=True, order=True)
class Installed:
    """A package, and where it is: npm's may be in many places."""

    package: Package
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Distribution:
    """What /etc/os-release says (os-release(5)): ID, VERSION_ID, VERSION, PRETTY_NAME."""

    identifier: str
    version: str
    version_words: str
    name: str


@dataclass(frozen=True, slots=True)
class Unread:
    """Something that tells of packages, or is one, and that nobody here can read."""

    what: str
    count: int
    example: str


@dataclass(frozen=True, slots=True)
class Image:
    """As the engine describes it; `name` is what the user called it, `layers` are diff ids from the lowest on."""

    name: str
    identifier: str
    architecture: str
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    image: Image
    distribution: Distribution | None
    packages: Sequence[Installed]
    unread: Sequence[Unread]
