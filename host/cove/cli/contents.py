"""`image sbom` and `image scan`: what is in an image, and what is known against it. Docker has no such commands of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cove.cli.client import quote
from cove.cli.command import Command, Context
from cove.cli.errors import CliError
from cove.cli.flags import Flag, Values, one_of, switch, text

if TYPE_CHECKING:
    from cove.contents.package import Contents, Image, Installed
    from cove.progress import Report
    from cove.vulnerabilities.scan import Finding, Scan
    from cove.vulnerabilities.severity import Level

FOUND = 3
"""The exit status of a scan that has found something at or above `--fail-on`."""
PATIENCE_S = 0.5
"""How long a command is silent: most are done by then."""
INTERVAL_S = 0.1
_DAY_S = 86400
_KINDS = {"spdx": "spdx", "spdx-json": "spdx", "cyclonedx": "cyclonedx", "cyclonedx-json": "cyclonedx", "json": "json"}


def sbom(context: Context, values: Values) -> int:
    """`cove image sbom`"""
    kind = "json" if values["json"] else _KINDS[one_of("format", values["format"], _KINDS)]
    _check(values["output"])
    from cove.contents import provenance

    now = provenance.now()  # a wrong SOURCE_DATE_EPOCH is told before anything is read
    with _progress(quiet=values["quiet"]) as report:
        contents = _read(context, _image(context, values.args[0]), report)
    if kind == "spdx":
        from cove.contents import spdx

        document = spdx.document(contents, now)
    elif kind == "cyclonedx":
        from cove.contents import cyclonedx

        document = cyclonedx.document(contents, now)
    else:
        document = _contents(contents)
    _write(_json(document), values["output"])
    if not values["quiet"]:
        _tell(_unread(contents))
    return 0


def scan(context: Context, values: Values) -> int:
    """`cove image scan`"""
    kind = "json" if values["json"] else one_of("format", values["format"], ("table", "json", "sarif"))
    threshold = _threshold(values["fail-on"])
    path = values["database"] or os.environ.get("COVE_OSV_DATABASE", "")
    if not path:
        raise CliError(
            "no vulnerability database is named: --database PATH (or COVE_OSV_DATABASE)\n"
            "      PATH is a file all.zip of osv.dev, or a folder of such files"
        )
    _check(values["output"])
    from contextlib import closing

    from cove.contents import provenance
    from cove.vulnerabilities import database
    from cove.vulnerabilities.scan import scan as scanned

    now = provenance.now()
    image = _image(context, values.args[0])
    with _progress(quiet=values["quiet"]) as report:
        with closing(database.open_(Path(path), report)) as known:
            found = scanned(_read(context, image, report), known)
    if kind == "table":
        written = _table(found)
    elif kind == "sarif":
        from cove.vulnerabilities import sarif

        written = _json(sarif.document(found, now))
    else:
        written = _json(_scanned(found))
    _write(written, values["output"])
    if not values["quiet"]:
        _tell(_about(found))
    _tell([*_gaps(found), *_unread(found.contents)])
    if threshold is None:
        return 0
    if not found.checked:
        raise CliError("--fail-on: nothing can be said: no package of the image was checked")
    return FOUND if found.at_least(threshold) else 0


def _threshold(given: str) -> Level | None:
    if not given:
        return None
    from cove.vulnerabilities.severity import THRESHOLDS, Level

    return Level[one_of("fail-on", given, THRESHOLDS).upper()]


def _check(output: str) -> None:
    if output:
        from cove.cli.output import check_file

        check_file(output, "failed to write the document")


def _image(context: Context, name: str) -> tuple[Image, int]:
    """The image, and how many bytes it has."""
    from cove.cli.earlier import earlier
    from cove.contents.package import Image

    found = context.engine.json("GET", f"/images/{quote(earlier(context.engine, name))}/json")
    layers = tuple((found.get("RootFS") or {}).get("Layers") or ())
    return Image(name, str(found["Id"]), str(found.get("Architecture", "")), layers), int(found.get("Size") or 0)


def _read(context: Context, described: tuple[Image, int], report: Report) -> Contents:
    from cove.contents import image as images
    from cove.progress import Event

    image, size = described
    # By its id: another image may have got the name since.
    response = context.engine.request("GET", "/images/get", {"names": image.identifier})
    try:
        return images.read(
            image, response, lambda done: report(Event("read", f"layers of {image.name}", min(done, size), size))
        )
    finally:
        response.close()


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Report]:
    """A callback that shows on a terminal how far it is, when there is something to wait for."""
    from cove.cli import terminal
    from cove.progress import Event, ignore, renderer

    if quiet or not terminal.is_terminal(2):
        yield ignore
        return
    with renderer() as report:
        due = time.monotonic() + PATIENCE_S

        def at_times(event: Event) -> None:
            nonlocal due
            if (now := time.monotonic()) >= due:
                due = now + INTERVAL_S
                report(event)

        yield at_times


def _write(written: str, output: str) -> None:
    from cove.cli.output import write_file, write_stdout

    data = [written.encode()]
    if output:
        write_file(output, data)
    else:
        write_stdout(data)


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _tell(notes: list[str]) -> None:
    for note in notes:
        print(note, file=sys.stderr)


def _unread(contents: Contents) -> list[str]:
    return [f"not read: {each.what} ({each.count}), such as {each.example}" for each in contents.unread]


def _about(found: Scan) -> list[str]:
    about = found.database
    notes = [
        f"database: {about.path}, {about.entries} vulnerabilities, the newest of {about.newest}{_age(about.newest)}"
    ]
    if about.unread:
        notes.append(f"not read: entries of the database that are none ({about.unread})")
    return notes


def _gaps(found: Scan) -> list[str]:
    """What the result does not speak of. A scan that says nothing else must say this."""
    notes: list[str] = []
    for each in found.unchecked:
        why = f"the database has none of {each.ecosystem}" if each.ecosystem else "OSV does not have their distribution"
        notes.append(f"not checked: {each.packages} packages ({each.kind}): {why}")
    if found.undecided:
        first = found.undecided[0]
        package = first.installed.package
        notes.append(
            f"not decided: {len(found.undecided)} entries whose versions cannot be compared, "
            f"such as {first.identifier} for {package.name} {package.version}"
        )
    unknown = sum(finding.severity.level == 0 for finding in found.findings)
    if unknown:
        notes.append(f"of unknown severity, which --fail-on does not count: {unknown}")
    return notes


def _age(moment: str) -> str:
    from datetime import UTC, datetime

    try:
        days = int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds() // _DAY_S)
    except (ValueError, TypeError):
        return ""
    return f" ({days} days ago)" if days >= 1 else " (today)"


def _table(found: Scan) -> str:
    from cove.cli.format import table

    if not found.findings:
        return f"No known vulnerability in the {found.checked} packages that were checked\n"
    heads = ("SEVERITY", "VULNERABILITY", "PACKAGE", "VERSION", "FIXED IN", "ECOSYSTEM")
    return table([heads, *(_row(each) for each in found.findings)])


def _row(finding: Finding) -> tuple[str, ...]:
    package, severity = finding.installed.package, finding.severity
    level = severity.level.word if severity.score is None else f"{severity.level.word} {severity.score}"
    return level, finding.identifier, package.name, package.version, finding.fixed or "-", finding.ecosystem


def _contents(contents: Contents) -> dict[str, Any]:
    from cove.contents import purl

    packages = [
        {**_package(each), "licence": each.package.licence, "purl": purl.of(each.package, contents.distribution)}
        for each in contents.packages
    ]
    return {**_head(contents), "packages": packages, "unread": _unread_json(contents)}


def _head(contents: Contents) -> dict[str, Any]:
    image, distribution = contents.image, contents.distribution
    return {
        "image": image.name,
        "id": image.identifier,
        "architecture": image.architecture,
        "layers": list(image.layers),
        "distribution": distribution
        and {"id": distribution.identifier, "version": distribution.version, "name": distribution.name},
    }


def _unread_json(contents: Contents) -> list[dict[str, Any]]:
    return [{"what": each.what, "count": each.count, "example": each.example} for each in contents.unread]


def _package(installed: Installed) -> dict[str, Any]:
    package = installed.package
    return {
        "kind": package.kind,
        "name": package.name,
        "version": package.version,
        "architecture": package.architecture or None,
        "source": package.source or None,
        "source_version": package.source_version or None,
        "places": [{"path": place.path, "layer": place.layer} for place in installed.places],
    }


def _scanned(found: Scan) -> dict[str, Any]:
    about = found.database
    return {
        **_head(found.contents),
        "database": {
            "path": about.path,
            "newest": about.newest,
            "entries": about.entries,
            "withdrawn": about.withdrawn,
            "unread": about.unread,
        },
        "findings": [
            {
                "id": each.identifier,
                "aliases": list(each.others),
                "entries": list(each.entries),
                "severity": each.severity.level.word,
                "score": each.severity.score,
                "fixed": each.fixed or None,
                "summary": each.summary,
                "ecosystem": each.ecosystem,
                "package": _package(each.installed),
            }
            for each in found.findings
        ],
        "unchecked": [
            {"kind": each.kind, "ecosystem": each.ecosystem, "packages": each.packages} for each in found.unchecked
        ],
        "undecided": [{"id": each.identifier, "package": _package(each.installed)} for each in found.undecided],
        "unread": _unread_json(found.contents),
    }


def _common(quiet: str) -> tuple[Flag, ...]:
    return (
        switch("json", "", "Print JSON"),
        text("output", "o", "Write to a file, instead of STDOUT"),
        switch("quiet", "q", quiet),
    )


COMMANDS = {
    "image sbom": Command(
        sbom,
        """Tell which packages are in an image (SPDX, CycloneDX)

The packages of dpkg, apk, pip and npm are read from the image's layers, each with its version,
source, licence where it is stated, package URL, and the layer that brought it.
What was found and could not be read is told.""",
        "IMAGE",
        (
            text("format", "", "Format of the document (spdx, cyclonedx, json)", "spdx"),
            *_common("Suppress progress and what was not read"),
        ),
        least=1,
        most=1,
    ),
    "image scan": Command(
        scan,
        """Look for known vulnerabilities in an image, in a database on this computer

The database is OSV's, as osv.dev publishes it: a file all.zip, or a folder of such files or of
OSV's JSON files. It is indexed once, and again when it has changed; nothing is fetched.

The exit status is 0, and 3 with --fail-on when there is something at or above that severity;
with --fail-on it is an error when no package could be checked.""",
        "IMAGE",
        (
            text("database", "", "OSV database to look in (COVE_OSV_DATABASE)"),
            text("fail-on", "", "Exit with 3 from this severity on (low, medium, high, critical)"),
            text("format", "", "Format of the result (table, json, sarif)", "table"),
            *_common("Suppress progress, and notes on the database"),
        ),
        least=1,
        most=1,
    ),
}
