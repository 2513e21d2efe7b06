"""dpkg's database: `status`, or a file for each package in `status.d`, as images without dpkg have it (distroless)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cove.contents.package import Package, clean
from cove.contents.stanzas import lines, stanzas

# Those whose files lie in the image, whole or in part (dpkg(1), "Package states").
_THERE = {"installed", "unpacked", "half-configured", "half-installed", "triggers-awaited", "triggers-pending"}
_FIELD = re.compile(r"^(Package|Version|Architecture|Source|Status):[ \t]*(.*)$", re.MULTILINE)
_SOURCE = re.compile(r"(\S+)(?:\s+\(([^)]*)\))?")


def packages(text: str) -> Iterator[Package]:
    for stanza in stanzas(text):
        fields = {name: clean(value) for name, value in _FIELD.findall(stanza)}
        if not fields.get("Package") or not fields.get("Version"):
            continue
        # Without a state it is a stanza of status.d, where only what is installed lies.
        if fields.get("Status", "installed").rpartition(" ")[2] not in _THERE:
            continue
        source = _SOURCE.match(fields.get("Source", ""))
        yield Package(
            "deb",
            fields["Package"],
            fields["Version"],
            fields.get("Architecture", ""),
            source[1] if source else fields["Package"],
            (source[2] if source else "") or fields["Version"],
        )


def listed(text: str) -> Iterator[str]:
    """The files of info/NAME.list, a path on each line, or of status.d/NAME.md5sums, a digest before each."""
    for line in lines(text):
        yield line.partition("  ")[2] or line.removeprefix("/")
