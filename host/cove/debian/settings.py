"""What Docker's official image has beside the packages: APT and dpkg as they suit containers, and where APT finds packages.

The values are those of debuerreotype (github.com/debuerreotype/debuerreotype), which makes the official image.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from cove.debian.filters import PathFilter
from cove.debian.releases import Release
from cove.image.mirror import Mirrors

_CLEAN = "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"

_FILES = {
    "etc/apt/apt.conf.d/docker-autoremove-suggests": (
        "# What was only suggested to be kept goes with `apt-get autoremove`: images are meant to be small.\n"
        'Apt::AutoRemove::SuggestsImportant "false";\n'
    ),
    "etc/apt/apt.conf.d/docker-clean": (
        "# A layer that installs packages should not keep them, nor APT's caches, a second time.\n"
        f'DPkg::Post-Invoke {{ "{_CLEAN}"; }};\n'
        f'APT::Update::Post-Invoke {{ "{_CLEAN}"; }};\n\n'
        'Dir::Cache::pkgcache "";\n'
        'Dir::Cache::srcpkgcache "";\n'
    ),
    "etc/apt/apt.conf.d/docker-gzip-indexes": (
        '# Lists of packages stay compressed on disk: few images remove them.\nAcquire::GzipIndexes "true";\n'
    ),
    "etc/apt/apt.conf.d/docker-no-languages": (
        '# Descriptions in other languages are not worth their download in a container.\nAcquire::Languages "none";\n'
    ),
    "etc/fstab": "# UNCONFIGURED FSTAB FOR BASE SYSTEM\n",
    "etc/dpkg/dpkg.cfg.d/docker-apt-speedup": (
        "# A layer that was not finished is made anew, so nothing is gained by syncing each file of it.\n"
        "force-unsafe-io\n"
    ),
}
_POLICY = """#!/bin/sh
# Packages do not start their services while they are installed: there is no init in a container.
exit 101
"""


def files(release: Release, mirrors: Mirrors, paths: PathFilter, keyring: str) -> dict[str, tuple[int, bytes]]:
    """Each file's permissions and content, by its path relative to the root. `keyring` is the path of APT's keys."""
    result = {path: (0o644, text.encode()) for path, text in _FILES.items()}
    result["usr/sbin/policy-rc.d"] = (0o755, _POLICY.encode())
    result["etc/apt/sources.list.d/debian.sources"] = (0o644, sources(release, mirrors, keyring).encode())
    if configuration := paths.configuration():
        head = "# Documentation and translations are left out of this image, and of what is installed in it.\n"
        result["etc/dpkg/dpkg.cfg.d/docker"] = (0o644, (head + configuration).encode())
    return result


def sources(release: Release, mirrors: Mirrors, keyring: str) -> str:
    """debian.sources(5), in the order of Docker's image."""
    suites: dict[str, list[str]] = {}
    for suite in release.suites:
        suites.setdefault(public(mirrors.base(suite.archive)), []).append(suite.name)
    stanzas = [
        f"Types: deb\nURIs: {url}\nSuites: {' '.join(names)}\nComponents: main\nSigned-By: /{keyring}\n"
        for url, names in suites.items()
    ]
    return "\n".join(stanzas)


def public(url: str) -> str:
    """`url` without the name and password of whoever downloads: an image is passed on."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
