"""Which files of a layer tell of packages, and what each of them says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from cove.contents import apk, dpkg, npm, os_release, python
from cove.contents.findings import MAX_FINDINGS, Findings
from cove.contents.package import Package

_DATABASE = 32 << 20
_SMALL = 4 << 20
_NODE = re.compile(r"(?:^|/)node_modules/(?:@[^/]+/)?[^/.@][^/]*/package\.json$")


@dataclass(frozen=True, slots=True)
class Reader:
    """`most` are the bytes that it reads; a larger file is read in part with `cut`, else not at all."""

    read: Callable[[str], Findings]
    what: str
    most: int = _SMALL
    cut: bool = False


def reader(path: str) -> Reader | None:
    """Who reads the file at `path`, which has no slash at its front."""
    if found := _DATABASES.get(path):
        return found
    if path.startswith("var/lib/dpkg/"):
        return _of_dpkg(path)
    for end, each in _BY_END:
        if path.endswith(end):
            return each
    if path.endswith("/package.json") and _NODE.search(path):
        return _NPM
    return None


def unread(path: str) -> str:
    """What it is that tells of packages at `path` and has no reader; "" for all else."""
    for pattern, what in _UNREAD:
        if pattern.search(path):
            return what
    return ""


def _dpkg(text: str) -> Findings:
    return Findings(_few(dpkg.packages(text)))


def _dpkg_list(text: str) -> Findings:
    return Findings(owned=_of_languages(dpkg.listed(text)))


def _apk(text: str) -> Findings:
    return Findings(_few(apk.packages(text)), owned=_of_languages(apk.listed(text)))


def _python(text: str) -> Findings:
    return _single(python.package(text))


def _npm(text: str) -> Findings:
    return _single(npm.package(text))


def _os_release(text: str) -> Findings:
    return Findings(distribution=os_release.distribution(text))


def _few(packages: Iterable[Package]) -> tuple[Package, ...]:
    """No more than it takes to see that they are too many."""
    return tuple(islice(packages, MAX_FINDINGS + 1))


def _single(package: Package | None) -> Findings:
    return Findings((package,) if package else ())


def _of_languages(paths: Iterable[str]) -> frozenset[str]:
    found = (path for path in paths if path.endswith(_ENDS))
    return frozenset(islice((path for path in found if reader(path) in (_PYTHON, _NPM)), MAX_FINDINGS + 1))


def _of_dpkg(path: str) -> Reader | None:
    folder, _, name = path.removeprefix("var/lib/dpkg/").partition("/")
    if folder == "info" and name.endswith(".list"):
        return _LIST
    if folder == "status.d" and name and "/" not in name:
        return _LIST if name.endswith(".md5sums") else _STATUS
    return None


_STATUS = Reader(_dpkg, "a database of dpkg", _DATABASE)
_LIST = Reader(_dpkg_list, "a list of a package's files", _DATABASE)
_APK = Reader(_apk, "a database of apk", _DATABASE)
_PYTHON = Reader(_python, "metadata of a Python package", cut=True)  # the description, which may be long, comes last
_NPM = Reader(_npm, "metadata of an npm package")
_RELEASE = Reader(_os_release, "os-release", 1 << 16)
_DATABASES = {
    "var/lib/dpkg/status": _STATUS,
    "lib/apk/db/installed": _APK,
    "usr/lib/apk/db/installed": _APK,
    "etc/os-release": _RELEASE,
    "usr/lib/os-release": _RELEASE,
}
_BY_END = ((".dist-info/METADATA", _PYTHON), (".egg-info/PKG-INFO", _PYTHON), (".egg-info", _PYTHON))
_ENDS = ("/METADATA", "/PKG-INFO", ".egg-info", "/package.json")
_UNREAD = (
    (re.compile(r"^(?:var/lib|usr/lib/sysimage|usr/share)/rpm/(?:Packages(?:\.db)?|rpmdb\.sqlite)$"), "rpm database"),
    (re.compile(r"^var/lib/pacman/local/[^/]+/desc$"), "package of pacman"),
    (re.compile(r"(?:^|/)conda-meta/[^/]+\.json$"), "package of conda"),
    (re.compile(r"\.(?:jar|war|ear)$"), "Java archive"),
    (re.compile(r"(?:^|/)specifications/(?:default/)?[^/]+\.gemspec$"), "Ruby gem"),
    (re.compile(r"(?:^|/)vendor/composer/installed\.json$"), "list of PHP packages"),
    (re.compile(r"\.deps\.json$"), "list of .NET packages"),
)
