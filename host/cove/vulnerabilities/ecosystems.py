"""Under which names OSV knows a package: its ecosystem (ossf.github.io/osv-schema, "Defined ecosystems") and its name there."""

from __future__ import annotations

import re

from cove.contents.package import Distribution, Package


def of(package: Package, distribution: Distribution | None) -> str | None:
    """None for a distribution that OSV does not have, or one without a release, such as Debian's testing."""
    if package.kind == "pypi":
        return "PyPI"
    if package.kind == "npm":
        return "npm"
    if distribution is None:
        return None
    release = distribution.version
    match package.kind, distribution.identifier:
        case "deb", "debian" if release:
            return f"Debian:{release.partition('.')[0]}"
        case "deb", "ubuntu" if release:
            return f"Ubuntu:{release}" + (":LTS" if "LTS" in distribution.version_words else "")
        case "apk", "alpine" if found := re.fullmatch(r"(\d+\.\d+)(?:\.\d+)*", release):
            return f"Alpine:v{found[1]}"
        case "apk", "wolfi":
            return "Wolfi"
        case "apk", "chainguard":
            return "Chainguard"
    return None


def name(package: Package) -> str:
    """Distributions' entries are about source packages."""
    return normal(package.kind, package.source or package.name)


def version(package: Package) -> str:
    return package.source_version or package.version


def normal(ecosystem: str, name: str) -> str:
    """PyPI's names are the same however they are written (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower() if ecosystem.lower() == "pypi" else name
