"""Package URLs (github.com/package-url/purl-spec): names that other programs know packages by."""

from __future__ import annotations

from packageurl import PackageURL

from cove.contents.package import Distribution, Package


def of(package: Package, distribution: Distribution | None) -> str | None:
    """None for a name that none can have: one of slashes, or a scope alone."""
    namespace, name, qualifiers = "", package.name, dict[str, str]()
    if package.kind in ("deb", "apk"):
        namespace = distribution.identifier if distribution else {"deb": "debian", "apk": "alpine"}[package.kind]
        if package.architecture:
            qualifiers["arch"] = package.architecture
        if distribution and distribution.version:
            qualifiers["distro"] = f"{distribution.identifier}-{distribution.version}"
    elif package.kind == "npm" and name.startswith("@") and "/" in name:
        namespace, _, name = name.partition("/")
    if not name.strip("/"):
        return None
    return PackageURL(package.kind, namespace or None, name, package.version, qualifiers).to_string()
