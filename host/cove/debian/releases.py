"""The releases of Debian that there are base images of, and their names on Docker Hub."""

from __future__ import annotations

from dataclasses import dataclass

from cove.errors import CoveError
from cove.image.recipe import Suite

_INDEX = "main/binary-amd64/Packages.xz"


@dataclass(frozen=True, slots=True)
class Release:
    """A release of Debian, with the parts of the archive that an installation of it uses: itself, then what supersedes it."""

    number: int
    codename: str
    packages: tuple[str, ...]
    """What an image has beside the required packages."""

    @property
    def suites(self) -> tuple[Suite, ...]:
        archive = (f"debian-archive-{self.codename}-automatic.asc",)
        security = (f"debian-archive-{self.codename}-security-automatic.asc",)
        return (
            Suite(self.codename, "debian", _INDEX, archive),
            Suite(f"{self.codename}-updates", "debian", _INDEX, archive),
            Suite(f"{self.codename}-security", "debian-security", _INDEX, security),
        )


RELEASES = (
    Release(13, "trixie", ("apt",)),
    # usr-is-merged says that /bin is a link already; the alternative that comes before it would make it one, with all of Perl.
    Release(12, "bookworm", ("apt", "usr-is-merged")),
)
"""Newest first: the first one is "latest"."""


@dataclass(frozen=True, slots=True)
class BaseImage:
    """The image that is asked for. `tag` is what it will be called; `slim` leaves out documentation and translations."""

    tag: str
    release: Release
    slim: bool


def parse(name: str) -> BaseImage:
    """`debian:13`, `debian:trixie`, `debian:13-slim`, ...; `debian` is `debian:latest`. Raises `CoveError` for any other."""
    repository, _, label = name.partition(":")
    release_name, hyphen, variant = (label or "latest").partition("-")
    if repository.removeprefix("docker.io/").removeprefix("library/") == "debian" and variant == (
        "slim" if hyphen else ""
    ):
        if release_name == "latest" and not hyphen:
            return BaseImage("debian:latest", RELEASES[0], slim=False)
        for release in RELEASES:
            if release_name in (str(release.number), release.codename):
                return BaseImage(f"debian:{label}", release, slim=bool(hyphen))
    known = [f"debian:{name}" for release in RELEASES for name in (release.number, release.codename)]
    raise CoveError(
        f"{name!r} is no image that can be made here",
        f"there are {', '.join(known)}, each with -slim as well, and debian:latest",
    )
