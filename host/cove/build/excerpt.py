"""The lines of a Dockerfile that an error or a warning is about, as BuildKit shows them (solver/errdefs)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from cove.build.status import Range, Source

RULE = "--------------------\n"
AROUND = 4
"""How many more lines are shown around one; around several it is half of that."""


def excerpt(source: Source, ranges: Sequence[Range]) -> str:
    """The lines in question, marked, and some around them; empty when there are none."""
    lines = source.data.decode(errors="replace").split("\n")
    if not ranges:
        return ""
    marked = {number for each in ranges for number in range(each.start, min(max(each.end, each.start), len(lines)) + 1)}
    start = first = min(each.start for each in ranges)
    end = min(max(max(each.end, each.start) for each in ranges), len(lines))
    if not 1 <= start <= len(lines):
        return ""
    wanted, added = AROUND if start == end else AROUND // 2, 0
    while added < wanted:
        if start > 1:
            start, added = start - 1, added + 1
        if end < len(lines):
            end, added = end + 1, added + 1
        added += 1
    text = "".join(
        f" {number:3} | {'>>>' if number in marked else '   '} {lines[number - 1]}\n"
        for number in range(start, end + 1)
    )
    return f"{source.filename}:{first}\n{RULE}{text}{RULE}"


def source_of(value: Any) -> Source | None:
    """A SourceInfo in BuildKit's JSON; None for what is none."""
    if not isinstance(value, dict):
        return None
    try:
        data = base64.b64decode(value.get("data") or "", validate=True)
    except (ValueError, TypeError):
        return None
    return Source(str(value.get("filename") or ""), data, str(value.get("language") or ""))


def ranges_of(value: Any) -> tuple[Range, ...]:
    """Ranges in BuildKit's JSON. What is none is left out."""
    result = []
    for each in value if isinstance(value, list) else ():
        start, end = (_position(each, name) for name in ("start", "end"))
        result.append(Range(start[0], end[0], start[1], end[1]))
    return tuple(result)


def _position(value: Any, name: str) -> tuple[int, int]:
    place = value.get(name) if isinstance(value, dict) else None
    line, character = (place.get(key) if isinstance(place, dict) else 0 for key in ("line", "character"))
    return line if isinstance(line, int) else 0, character if isinstance(character, int) else 0


def lint(result: str, filename: str) -> tuple[str, str]:
    """(what to print, the error in the Dockerfile) of the JSON that `--check` gives. Sources are told by `filename`,
    the name by which the user has given the Dockerfile. Raises `ValueError` for what is no such JSON.
    """
    data = json.loads(result)
    if not isinstance(data, dict):
        raise ValueError("not an object")
    sources = [source_of(each) for each in data.get("sources") or ()]
    warnings = [each for each in data.get("warnings") or () if isinstance(each, dict)]
    text = ""
    if warnings:
        found = "1 warning has been found!" if len(warnings) == 1 else f"{len(warnings)} warnings have been found!"
        text = f"Check complete, {found}\n"
    for each in sorted(warnings, key=lambda each: _order(each, sources)):
        url = f" - {each['url']}" if each.get("url") else ""
        text += f"\nWARNING: {each.get('ruleName', '')}{url}\n{each.get('detail', '')}\n"
        text += _located(each.get("location"), sources, filename)
    error = data.get("buildError")
    if isinstance(error, dict):
        told = f"{error.get('message', '')}\n" + _located(error.get("location"), sources, filename)
        return f"{text}\n" if warnings else text, told
    return text or "Check complete, no warnings found.\n", ""


def _order(warning: dict[str, Any], sources: Sequence[Source | None]) -> tuple[str, int, str]:
    source, ranges = _place(warning.get("location"), sources)
    return source.filename if source else "", ranges[0].start if ranges else 0, str(warning.get("ruleName", ""))


def _place(location: Any, sources: Sequence[Source | None]) -> tuple[Source | None, tuple[Range, ...]]:
    if not isinstance(location, dict):
        return None, ()
    index = location.get("sourceIndex") or 0
    source = sources[index] if isinstance(index, int) and 0 <= index < len(sources) else None
    return source, ranges_of(location.get("ranges"))


def _located(location: Any, sources: Sequence[Source | None], filename: str) -> str:
    source, ranges = _place(location, sources)
    if source is None:
        return ""
    return excerpt(replace(source, filename=filename) if filename else source, ranges)


def table(rows: Iterable[Sequence[str]], gap: int) -> str:
    """Columns `gap` blanks apart, the last one as it is (Go's tabwriter)."""
    every = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in every) + gap for column in range(len(every[0]) - 1)] if every else []
    return "".join("".join(map(str.ljust, row, widths)) + row[-1] + "\n" for row in every)


def outline(result: str) -> str:
    """What `--call=outline` prints. Raises `ValueError`."""
    data = json.loads(result)
    if not isinstance(data, dict):
        raise ValueError("not an object")
    text = ""
    if data.get("name") or data.get("description"):
        rows = [["TARGET:", data.get("name") or "(default)"]]
        if data.get("description"):
            rows.append(["DESCRIPTION:", data["description"]])
        text += table(rows, 1) + "\n"
    if args := data.get("args"):
        rows = [[str(each.get(key) or "") for key in ("name", "value", "description")] for each in args]
        text += table([["BUILD ARG", "VALUE", "DESCRIPTION"], *rows], 3) + "\n"
    for key, title in (("secrets", "SECRET"), ("ssh", "SSH")):
        if found := data.get(key):
            rows = [[str(each.get("name") or ""), "true" if each.get("required") else ""] for each in found]
            text += table([[title, "REQUIRED"], *rows], 3) + "\n"
    return text


def targets(result: str) -> str:
    """What `--call=targets` prints. Raises `ValueError`."""
    data = json.loads(result)
    if not isinstance(data, dict):
        raise ValueError("not an object")
    rows = [["TARGET", "DESCRIPTION"]]
    for each in data.get("targets") or ():
        name = str(each.get("name") or "")
        if each.get("default"):
            name = f"{name} (default)" if name else "(default)"
        rows.append([name, str(each.get("description") or "")])
    return table(rows, 1)
