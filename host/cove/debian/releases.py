"""The releases of Debian that there are base images of, and their names on Docker Hub."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cove.errors import CoveError
from cove.image.recipe import Suite


@dataclass(frozen=True, slots=True)
class Port:
    """Debian for one kind of processor: its own name for that, and what images call it (OCI image spec, config.md)."""

    name: str
    architecture: str
    variant: str = ""

    @property
    def platform(self) -> str:
        return "/".join(part for part in ("linux", self.architecture, self.variant) if part)


AMD64 = Port("amd64", "amd64")
PORTS = (
    AMD64, Port("arm64", "arm64", "v8"), Port("armhf", "arm", "v7"), Port("i386", "386"), Port("ppc64el", "ppc64le"),
    Port("riscv64", "riscv64"), Port("s390x", "s390x"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Release:
    """A release of Debian, with the parts of the archive that an installation of it uses: itself, then what supersedes it."""

    number: int
    codename: str
    packages: tuple[str, ...]
    """What an image has beside the required packages."""
    port: Port = AMD64

    @property
    def suites(self) -> tuple[Suite, ...]:
        index = f"main/binary-{self.port.name}/Packages.xz"
        archive = (f"debian-archive-{self.codename}-automatic.asc",)
        security = (f"debian-archive-{self.codename}-security-automatic.asc",)
        return (
            Suite(self.codename, "debian", index, archive),
            Suite(f"{self.codename}-updates", "debian", index, archive),
            Suite(f"{self.codename}-security", "debian-security", index, security),
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


def port_of(architecture: str, variant: str = "") -> Port:
    """The port for what images call so. Raises `CoveError` when Debian has none."""
    for port in PORTS:
        if port.architecture == architecture and variant in ("", port.variant):
            return port
    raise CoveError(
        f"Debian has no packages for linux/{architecture}{variant and '/' + variant}",
        f"there are base images for {', '.join(port.platform for port in PORTS)}",
    )


def parse(name: str, port: Port = AMD64) -> BaseImage:
    """`debian:13`, `debian:trixie`, `debian:13-slim`, ...; `debian` is `debian:latest`. Raises `CoveError` for any other."""
    repository, _, label = name.partition(":")
    release_name, hyphen, variant = (label or "latest").partition("-")
    if repository.removeprefix("docker.io/").removeprefix("library/") == "debian" and variant == (
        "slim" if hyphen else ""
    ):
        if release_name == "latest" and not hyphen:
            return BaseImage("debian:latest", replace(RELEASES[0], port=port), slim=False)
        for release in RELEASES:
            if release_name in (str(release.number), release.codename):
                return BaseImage(f"debian:{label}", replace(release, port=port), slim=bool(hyphen))
    known = [f"debian:{name}" for release in RELEASES for name in (release.number, release.codename)]
    raise CoveError(
        f"{name!r} is no image that can be made here",
        f"there are {', '.join(known)}, each with -slim as well, and debian:latest",
    )
