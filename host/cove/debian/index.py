"""What a release's suites offer: Packages files, read as far as resolving dependencies needs.

They have some 70000 stanzas of which an image uses 80: a stanza is taken apart when it is asked for.
Source: deb-control(5), Debian policy 7 (relationships) and 5.6.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, cmp_to_key
from pathlib import Path

from cove.errors import CoveError
from cove.image import archive, inputs
from cove.image.archive import compare_versions
from cove.image.download import Downloader, Wanted
from cove.image.mirror import Mirrors
from cove.image.recipe import Suite
from cove.progress import Event, Report

PRIORITIES = ("required", "important", "standard", "optional", "extra")
_OPERATORS: dict[str, Callable[[int], bool]] = {
    "<<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    "=": lambda order: order == 0,
    ">=": lambda order: order >= 0,
    ">>": lambda order: order > 0,
}
_RELATION = re.compile(r"([a-z0-9][a-z0-9+.-]*)(?::[a-z0-9-]+)?\s*(?:\((<<|<=|=|>=|>>)\s*([^\s)]+)\))?")


@dataclass(frozen=True, slots=True)
class Relation:
    """One alternative of a dependency: a package or what packages provide, of any version unless `operator` is given."""

    name: str
    operator: str = ""
    version: str = ""

    def allows(self, version: str) -> bool:
        return not self.operator or _OPERATORS[self.operator](compare_versions(version, self.version))


def parse_relations(text: str) -> list[list[Relation]]:
    """The field of a relationship: all of the outer list, each by any of the inner. Raises `ValueError`."""
    return [[_relation(each.strip()) for each in group.split("|")] for group in text.split(",") if group.strip()]


def _relation(text: str) -> Relation:
    match = _RELATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no relationship between packages")
    return Relation(match[1], match[2] or "", match[3] or "")


class Offer:
    """One version of a package that a suite offers, by its stanza in the index. `archive` is the archive's name."""

    def __init__(self, archive: str, stanza: str) -> None:
        self.archive = archive
        self.fields: dict[str, str] = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", stanza, re.MULTILINE))

    def __repr__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def name(self) -> str:
        return self.fields["Package"]

    @property
    def version(self) -> str:
        return self.fields["Version"]

    @property
    def size(self) -> int:
        return int(self.fields["Size"])

    @property
    def required(self) -> bool:
        return self.fields.get("Priority") == "required" or self.fields.get("Essential") == "yes"

    @cached_property
    def depends(self) -> list[list[Relation]]:
        return [*self._relations("Pre-Depends"), *self._relations("Depends")]

    @cached_property
    def excludes(self) -> list[Relation]:
        """What may not be there beside it."""
        return [each for field in ("Conflicts", "Breaks") for group in self._relations(field) for each in group]

    @cached_property
    def provides(self) -> dict[str, str]:
        """The names that it provides, each with its version, which may be empty."""
        return {each.name: each.version for group in self._relations("Provides") for each in group}

    def satisfies(self, relation: Relation) -> bool:
        """Whether it is what `relation` asks for, or provides that: a provision without a version is of none (policy 7.5)."""
        if relation.name == self.name:
            return relation.allows(self.version)
        provided = self.provides.get(relation.name)
        return provided is not None and (not relation.operator or (provided != "" and relation.allows(provided)))

    def wanted(self, mirrors: Mirrors) -> Wanted:
        return Wanted(
            f"{self.name} {self.version}",
            f"{mirrors.base(self.archive)}/{self.fields['Filename']}",
            self.fields["SHA256"].lower(),
            self.size,
        )

    def _relations(self, field: str) -> list[list[Relation]]:
        return parse_relations(self.fields.get(field, ""))


class Index:
    """The packages of several suites."""

    def __init__(self) -> None:
        self._stanzas: dict[str, list[tuple[str, str]]] = {}
        self._providers: dict[str, set[str]] = {}
        self._offers: dict[str, list[Offer]] = {}
        self._required: set[str] = set()

    def add(self, text: str, archive: str) -> None:
        """Take in the text of a Packages file."""
        for stanza in text.split("\n\n"):
            match = re.match(r"\s*Package: (\S+)$", stanza, re.MULTILINE)
            if match is None:
                continue
            name = match[1]
            self._stanzas.setdefault(name, []).append((archive, stanza))
            if "\nPriority: required" in stanza or "\nEssential: yes" in stanza:
                self._required.add(name)
            if found := re.search(r"^Provides: (.*)$", stanza, re.MULTILINE):
                for provided in re.findall(r"(?:^|,)\s*([^\s,(:]+)", found[1]):
                    self._providers.setdefault(provided, set()).add(name)

    def versions(self, name: str) -> Sequence[Offer]:
        """What there is of a package, newest first."""
        if name not in self._offers:
            offers = [Offer(*found) for found in self._stanzas.get(name, ())]
            self._offers[name] = sorted(offers, key=cmp_to_key(_by_version), reverse=True)
        return self._offers[name]

    def newest(self, name: str) -> Offer | None:
        versions = self.versions(name)
        return versions[0] if versions else None

    def required(self) -> list[str]:
        """The names of packages without which no system is, in order."""
        return sorted(name for name in self._required if (offer := self.newest(name)) and offer.required)

    def candidates(self, relation: Relation) -> Iterator[Offer]:
        """What satisfies `relation`: the package of that name, then those that provide it, the more important ones first."""
        offer = self.newest(relation.name)
        if offer and offer.satisfies(relation):
            yield offer
        providers = [offer for name in self._providers.get(relation.name, ()) if (offer := self.newest(name))]
        for offer in sorted(providers, key=lambda offer: (_rank(offer), offer.name)):
            if offer.name != relation.name and offer.satisfies(relation):
                yield offer


def _by_version(left: Offer, right: Offer) -> int:
    return compare_versions(left.version, right.version)


def _rank(offer: Offer) -> int:
    priority = offer.fields.get("Priority", "")
    return PRIORITIES.index(priority) if priority in PRIORITIES else len(PRIORITIES)


def fetch(suites: Sequence[Suite], mirrors: Mirrors, cache: Path, report: Report) -> Index:
    """The index of `suites`, whose signatures are verified.

    `cache` is a folder of this function's own: an index stays there until the suite has another. Raises `CoveError`.
    """
    result = Index()
    for suite in suites:
        folder = cache / suite.name
        folder.mkdir(parents=True, exist_ok=True)
        path = _download(suite, mirrors, folder, report)
        for old in folder.iterdir():
            if old != path:
                old.unlink(missing_ok=True)
        try:
            result.add(lzma.decompress(path.read_bytes()).decode("utf-8"), suite.archive)
        except (lzma.LZMAError, ValueError) as error:
            raise CoveError(f"the index of {suite.name} cannot be read: {error}") from error
    return result


def _download(suite: Suite, mirrors: Mirrors, folder: Path, report: Report) -> Path:
    done = size = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(Event("index", f"signed index of {suite.name}", done, size))

    downloader = Downloader(folder, advance)
    base = f"{mirrors.base(suite.archive)}/dists/{suite.name}"
    report(Event("index", f"signed index of {suite.name}"))
    signed = downloader.get_small(f"the index of {suite.name}", f"{base}/InRelease", archive.MAX_RELEASE)
    keys = archive.load_keys(inputs.recipe_dir() / "keys", suite.keys)
    release = archive.verify_release(signed, suite.name, keys)
    if suite.index not in release.files:
        raise CoveError(f"the index of {suite.name} lists no {suite.index}")
    size, sha256 = release.files[suite.index]
    return downloader.fetch(Wanted(f"the packages' index of {suite.name}", f"{base}/{suite.index}", sha256, size))
