"""What the Dockerfile's frontend answers to questions about it that are no builds (moby/buildkit, frontend/subrequests)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

from coved.build.request import Checked, Result
from coved.dockerfile.instructions import Location
from coved.dockerfile.outline import Outline, Targets

DESCRIBE = "frontend.subrequests.describe"
LINT, OUTLINE, TARGETS = "frontend.lint", "frontend.outline", "frontend.targets"
QUESTIONS = {LINT: "check", OUTLINE: "outline", TARGETS: "targets"}
"""To ``Request.question``."""
_RESULTS = [{"name": "result.json", "description": ""}, {"name": "result.txt", "description": ""}]
_Json = dict[str, Any]


def of(built: Result) -> dict[str, bytes]:
    """The metadata of a result."""
    match built.answer:
        case Outline():
            return _metadata(_outline(built.answer), outline_text(built.answer), "1.0.0")
        case Targets():
            return _metadata(_targets(built.answer), targets_text(built.answer), "1.0.0")
        case Checked():
            return _lint(built.answer)
    return {}


def description() -> dict[str, bytes]:
    """Which questions have an answer."""
    outline = _asked(OUTLINE, "List all parameters current build target supports")
    outline["opts"] = [{"name": "target", "description": "Target build stage"}]
    targets = {**_asked(TARGETS, "List all targets current build supports"), "opts": []}
    every = [outline, targets, _asked(DESCRIBE, "List available subrequest types")]
    rows = [("NAME", "VERSION", "DESCRIPTION")]
    rows += [(one["name"].removeprefix("frontend."), one["version"], one["description"]) for one in every]
    return _metadata(every, table(rows, 1), "1.0.0")


def _asked(name: str, what: str) -> _Json:
    return {
        "name": name, "version": "1.0.0", "type": "rpc", "description": what, "opts": None, "inputs": None,
        "metadata": _RESULTS, "refs": None,
    }  # fmt: skip


def _metadata(document: object, text: str, version: str) -> dict[str, bytes]:
    data = json.dumps(document, indent=2, ensure_ascii=False)
    for character in "<>&\u2028\u2029":  # as Go writes them
        data = data.replace(character, f"\\u{ord(character):04x}")
    return {
        "result.json": data.encode("utf-8", "replace"),
        "result.txt": text.encode("utf-8", "replace"),
        "version": version.encode(),
    }


def _location(location: Location) -> _Json:
    """All are in the one Dockerfile, which is number 0: what is the default is left out."""
    return {"ranges": [{"start": {"line": location.first}, "end": {"line": location.last}}]}


def _source(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "replace")).decode("ascii")


def _without_empty(fields: _Json) -> _Json:
    return {name: value for name, value in fields.items() if value}


def _outline(outline: Outline) -> _Json:
    return _without_empty(
        {
            "name": outline.name,
            "description": outline.description,
            "args": [
                {
                    "name": one.name,
                    **_without_empty({"description": one.description, "value": one.value}),
                    "location": _location(one.location),
                }
                for one in outline.arguments
            ],
            **{
                name: [
                    {
                        "name": one.name,
                        **_without_empty({"required": one.required}),
                        "location": _location(one.location),
                    }
                    for one in every
                ]
                for name, every in (("secrets", outline.secrets), ("ssh", outline.agents))
            },
            "sources": [_source(outline.text)],
        }
    )


def outline_text(outline: Outline) -> str:
    text = ""
    if outline.name or outline.description:
        rows = [("TARGET:", outline.name or "(default)")]
        if outline.description:
            rows.append(("DESCRIPTION:", outline.description))
        text += table(rows, 1) + "\n"
    if outline.arguments:
        arguments = [(one.name, one.value, one.description) for one in outline.arguments]
        text += table([("BUILD ARG", "VALUE", "DESCRIPTION"), *arguments], 3) + "\n"
    for title, every in (("SECRET", outline.secrets), ("SSH", outline.agents)):
        if every:
            wanted = [(one.name, "true" if one.required else "") for one in every]
            text += table([(title, "REQUIRED"), *wanted], 3) + "\n"
    return text


def _targets(targets: Targets) -> _Json:
    return {
        "targets": [
            _without_empty(
                {
                    "name": one.name,
                    "default": one.default,
                    "description": one.description,
                    "base": one.base,
                    "platform": one.platform,
                    "location": _location(one.location),
                }
            )
            for one in targets.targets
        ],
        "sources": [_source(targets.text)],
    }


def targets_text(targets: Targets) -> str:
    rows = [("TARGET", "DESCRIPTION")]
    for one in targets.targets:
        default = f"{one.name} (default)" if one.name else "(default)"
        rows.append((default if one.default else one.name, one.description))
    return table(rows, 1)


def table(rows: Iterable[Sequence[str]], gap: int) -> str:
    """Columns ``gap`` blanks apart, the last one as it is (Go's tabwriter)."""
    every = [[*row] for row in rows]
    widths = [max(len(row[column]) for row in every) + gap for column in range(len(every[0]) - 1)]
    return "".join("".join(map(str.ljust, row, widths)) + row[-1] + "\n" for row in every)


def _lint(checked: Checked) -> dict[str, bytes]:
    warnings = checked.warnings
    document: _Json = {
        "warnings": [
            {
                "ruleName": each.rule,
                "description": each.description,
                "url": each.url,
                "detail": each.message,
                "location": _location(each.location),
            }
            for each in warnings
        ],
        "sources": [{"filename": checked.filename, "data": _source(checked.text), "language": "Dockerfile"}],
    }
    if checked.error:
        where = _location(checked.location) if checked.location is not None else {}
        document["buildError"] = {"message": checked.error, "location": where}
    text = "".join(f"\n{each.message}\n{each.description}\n{each.url}\n" for each in warnings)
    status = b"1" if warnings or checked.error else b"0"
    return {**_metadata(document, text, "1.0.0"), "result.statuscode": status}
