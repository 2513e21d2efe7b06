"""Metadata of Python's packages (packaging.python.org/en/latest/specifications/core-metadata)."""

from __future__ import annotations

from email.parser import HeaderParser

from cove.contents.package import Package, clean

_LONG = 100
"""Characters from which on a field License holds a licence's text, and not its name."""
_CLASSIFIER = "License :: "


def package(text: str) -> Package | None:
    fields = HeaderParser().parsestr(text)

    def one(name: str) -> str:
        return clean(str(fields.get(name, "")))

    if not one("Name") or not one("Version"):
        return None
    licence = one("License-Expression")
    if not licence and (stated := str(fields.get("License", ""))) and len(stated) <= _LONG and "\n" not in stated:
        licence = clean(stated)
    if licence.upper() in ("", "UNKNOWN"):
        classified = [str(each) for each in fields.get_all("Classifier", [])]
        named = [each.rpartition(" :: ")[2] for each in classified if each.startswith(_CLASSIFIER)]
        licence = clean(", ".join(named))
    return Package("pypi", one("Name"), one("Version"), licence=licence)
