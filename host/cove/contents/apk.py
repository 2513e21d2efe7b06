"""apk's database of what is installed: blocks of lines `LETTER:VALUE` (wiki.alpinelinux.org/wiki/Apk_spec)."""

from __future__ import annotations

from collections.abc import Iterator

from cove.contents.package import Package, clean
from cove.contents.stanzas import lines, stanzas


def packages(text: str) -> Iterator[Package]:
    for block in stanzas(text):
        fields: dict[str, str] = {}
        for line in block.splitlines():
            if line[:2] in ("P:", "V:", "A:", "L:", "o:"):
                fields[line[0]] = clean(line[2:])
            elif line[:2] == "F:":
                break  # files, to the end of the block
        if fields.get("P") and fields.get("V"):
            source = fields.get("o") or fields["P"]
            yield Package(
                "apk", fields["P"], fields["V"], fields.get("A", ""), source, fields["V"], fields.get("L", "")
            )


def listed(text: str) -> Iterator[str]:
    """The paths of all files of all packages."""
    folder = ""
    for line in lines(text):
        if line[:2] == "F:":
            folder = line[2:]
        elif line[:2] == "R:":
            yield f"{folder}/{line[2:]}" if folder else line[2:]
