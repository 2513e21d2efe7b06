"""From the recipe's names to exact packages, and from those to files: the lock, and what happens when its pins are gone.

Debian's pool drops a version days after the next one is out. A pin that is gone is resolved again through the signed index, all
packages together, so that the set stays consistent, and the image's manifest says what was really used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from cove.errors import CoveError
from cove.image import archive
from cove.image.archive import Package
from cove.image.download import Downloader, Wanted
from cove.image.mirror import Mirrors
from cove.image.recipe import Recipe
from cove.progress import Event, Report


def index(recipe: Recipe, mirrors: Mirrors, cache: Path) -> dict[str, list[Package]]:
    """All packages of the recipe's suites by name, from indexes whose signatures were verified. Raises `CoveError`."""
    downloader = Downloader(cache)
    cache.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Package]] = {}
    for suite in recipe.suites:
        base = f"{mirrors.base(suite.archive)}/dists/{suite.name}"
        signed = downloader.get_small(f"the index of {suite.name}", f"{base}/InRelease", archive.MAX_RELEASE)
        keys = archive.load_keys(recipe.directory / "keys", suite.keys)
        release = archive.verify_release(signed, suite.name, keys)
        if suite.index not in release.files:
            raise CoveError(f"the index of {suite.name} lists no {suite.index}")
        size, sha256 = release.files[suite.index]
        wanted = Wanted(f"the packages' index of {suite.name}", f"{base}/{suite.index}", sha256, size)
        path = downloader.fetch(wanted)
        for package in archive.parse_packages(path.read_bytes(), suite.archive):
            found.setdefault(package.name, []).append(package)
        # Indexes are as big as the packages and never the same twice: the lock keeps what matters of them.
        path.unlink(missing_ok=True)
    return found


def resolve(recipe: Recipe, packages: Mapping[str, Sequence[Package]]) -> list[Package]:
    """The newest version of each package of the recipe, the kernel behind its metapackage among them. Raises `CoveError`."""

    def newest(name: str) -> Package:
        if name not in packages:
            raise CoveError(
                f"Debian's index has no package {name}", "the recipe of the VM image needs another name for it"
            )
        return archive.newest(packages[name])

    kernel = re.match(r"[^ ,]+", newest(recipe.kernel).depends)
    if kernel is None:
        raise CoveError(f"the package {recipe.kernel} does not depend on a kernel")
    return [newest(name) for name in sorted({*recipe.packages, kernel[0]})]


def fetch(
    recipe: Recipe, locked: Sequence[Package], mirrors: Mirrors, cache: Path, report: Report
) -> tuple[list[tuple[Package, Path]], bool]:
    """Return every package with its verified file, and whether pins had to be resolved again. Raises `CoveError`."""
    files, gone = _download(locked, mirrors, cache, report)
    if not gone:
        return files, False
    report(Event("image", f"{gone} pinned packages are superseded; resolving again through the signed index"))
    files, gone = _download(resolve(recipe, index(recipe, mirrors, cache)), mirrors, cache, report)
    if gone:
        raise CoveError(
            "the mirror's index names packages that the mirror does not have",
            "it is probably being updated: try again in some minutes, or set COVE_DEBIAN_MIRROR to another mirror",
        )
    return files, True


def _download(
    packages: Sequence[Package], mirrors: Mirrors, cache: Path, report: Report
) -> tuple[list[tuple[Package, Path]], int]:
    total = sum(package.size for package in packages)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(Event("image", f"{len(packages)} Debian packages", min(done, total), total))

    downloader = Downloader(cache, advance)
    wanted = [
        Wanted(
            f"{package.name} {package.version}",
            f"{mirrors.base(package.archive)}/{package.filename}",
            package.sha256,
            package.size,
        )
        for package in packages
    ]
    gone = downloader.fetch_all(wanted)
    return [(package, downloader.path(package.sha256)) for package in packages], len(gone)
