"""The vulnerabilities of an image: each package's entries, those that are one vulnerability taken together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cove.contents.package import Contents, Installed
from cove.vulnerabilities import ecosystems
from cove.vulnerabilities.affected import Verdict, judge
from cove.vulnerabilities.database import About, Affected, Database
from cove.vulnerabilities.severity import Level, Severity, highest

_PREFERRED = ("CVE-", "GHSA-", "PYSEC-")
"""Names that people know a vulnerability by, the best first; all others after them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A vulnerability of one package. `identifier` is the name that is known best, `others` all the others, `entries` those of the
    database that say so; `fixed` is the next version in which it is mended, "" when none is known.
    """

    identifier: str
    others: tuple[str, ...]
    entries: tuple[str, ...]
    installed: Installed
    ecosystem: str
    severity: Severity
    fixed: str
    summary: str


@dataclass(frozen=True, slots=True)
class Unchecked:
    """Packages of one kind of which nothing can be known: `ecosystem` is None when OSV has none for them, and else one of which
    the database has no entry.
    """

    kind: str
    ecosystem: str | None
    packages: int


@dataclass(frozen=True, slots=True)
class Undecided:
    """An entry whose versions cannot be compared with the package's."""

    identifier: str
    installed: Installed


@dataclass(frozen=True, slots=True)
class Scan:
    contents: Contents
    database: About
    findings: Sequence[Finding]
    unchecked: Sequence[Unchecked]
    undecided: Sequence[Undecided]

    @property
    def checked(self) -> int:
        """Packages that were looked up."""
        return len(self.contents.packages) - sum(each.packages for each in self.unchecked)

    def at_least(self, level: Level) -> int:
        return sum(finding.severity.level >= level for finding in self.findings)


def scan(contents: Contents, database: Database) -> Scan:
    findings: list[Finding] = []
    undecided: list[Undecided] = []
    unchecked: dict[tuple[str, str | None], int] = {}
    for installed in contents.packages:
        package = installed.package
        ecosystem = ecosystems.of(package, contents.distribution)
        asked = [ecosystem, ecosystem.partition(":")[0]] if ecosystem else []
        if ecosystem is None or not any(each in database.ecosystems for each in asked):
            key = (package.kind, ecosystem)
            unchecked[key] = unchecked.get(key, 0) + 1
            continue
        hits: list[tuple[Affected, Verdict]] = []
        unsure: set[str] = set()
        for each in dict.fromkeys(asked):
            for affected in database.affected(each, ecosystems.name(package)):
                verdict = judge(package.kind, ecosystems.version(package), affected.ranges, affected.versions)
                if verdict.affected:
                    hits.append((affected, verdict))
                elif verdict.undecided:
                    unsure.add(affected.entry.identifier)
        findings += (_finding(group, installed, ecosystem, database) for group in _groups(hits))
        undecided += (Undecided(identifier, installed) for identifier in sorted(unsure))
    findings.sort(key=_order)
    return Scan(
        contents,
        database.about,
        findings,
        [Unchecked(*key, count) for key, count in sorted(unchecked.items(), key=lambda item: str(item[0]))],
        undecided,
    )


def _order(finding: Finding) -> tuple[object, ...]:
    package = finding.installed.package
    score = finding.severity.score or 0.0
    return -finding.severity.level, -score, package.name, package.version, package.architecture, finding.identifier


def _names(affected: Affected) -> set[str]:
    """All names of what the entry is about. A distribution's entry for a single vulnerability names it as its upstream."""
    entry = affected.entry
    return {entry.identifier, *entry.aliases, *(entry.upstream if len(entry.upstream) == 1 else ())}


def _groups(hits: Iterable[tuple[Affected, Verdict]]) -> list[list[tuple[Affected, Verdict]]]:
    """Those that share a name, directly or by others, together."""
    same: dict[str, str] = {}
    """From each name towards the one that stands for all that are the same (a forest of disjoint sets)."""

    def first(name: str) -> str:
        while (nearer := same.setdefault(name, name)) != name:
            same[name] = name = same[nearer]
        return name

    found = [(hit, _names(hit[0])) for hit in hits]
    for hit, names in found:
        for name in names:
            same[first(name)] = first(hit[0].entry.identifier)
    groups: dict[str, list[tuple[Affected, Verdict]]] = {}
    for hit, _ in found:
        groups.setdefault(first(hit[0].entry.identifier), []).append(hit)
    return [*groups.values()]


def _finding(
    hits: Sequence[tuple[Affected, Verdict]], installed: Installed, ecosystem: str, database: Database
) -> Finding:
    affected = [each for each, _ in hits]
    entries = sorted({each.entry.identifier for each in affected})
    names = sorted({name for each in affected for name in _names(each)}, key=_familiarity)
    identifier = names[0]
    upstream = {name for each in affected for name in each.entry.upstream}
    found = highest(each.severity for each in affected)
    if found.level is Level.UNKNOWN:  # others may have judged it
        found = highest(database.severity(name) for name in sorted({*names, *upstream} - {*entries}))
    return Finding(
        identifier,
        tuple(names[1:]),
        tuple(entries),
        installed,
        ecosystem,
        found,
        next((version for _, verdict in hits for version in verdict.fixed), ""),
        next((each.entry.summary for each in affected if each.entry.summary), ""),
    )


def _familiarity(name: str) -> tuple[int, str]:
    return next((place for place, prefix in enumerate(_PREFERRED) if name.startswith(prefix)), len(_PREFERRED)), name
