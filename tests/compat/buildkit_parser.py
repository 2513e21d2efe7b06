"""BuildKit's own published parser cases, of a checkout of it.

``COVE_BUILDKIT=/path/to/buildkit pytest tests/compat/buildkit_parser.py``
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from coved.dockerfile import arguments, parser, readers
from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.lines import Reader
from coved.dockerfile.text import quote
from coved.dockerfile.words import Style, process

_DOCKERFILE = Path(os.environ["COVE_BUILDKIT"]) / "frontend/dockerfile"


def _cases(folder: str) -> list[str]:
    return sorted(path.name for path in (_DOCKERFILE / folder).iterdir())


def _dump(keyword: str, flags: list[str], rest: str, escape: str) -> str:
    """An instruction as BuildKit's dumper shows it."""
    shown = keyword.lower()
    if flags:
        shown += f" [{' '.join(map(quote, flags))}]"
    return " ".join([shown, *_arguments(keyword.upper(), rest, escape)])


def _arguments(keyword: str, rest: str, escape: str) -> list[str]:
    if keyword == "ONBUILD":
        return [f"({_dump(*arguments.split_line(rest, escape), escape)})"]
    if keyword in ("ENV", "LABEL"):
        found, legacy = arguments.pairs(rest, keyword, escape)
        return [quote(text) for pair in found for text in (*pair, "" if legacy else "=")]
    if keyword == "ARG":
        return [quote(word) for word in arguments.words(rest, escape)]
    if keyword in ("EXPOSE", "FROM"):
        return [quote(word) for word in arguments.by_blanks(rest)]
    if keyword == "HEALTHCHECK" and rest:
        kind, command = readers._health_command(rest)
        words = arguments.exec_form(command)
        return [quote(word) for word in [kind, *([command] if words is None and command else words or [])]]
    if keyword in ("ADD", "COPY", "VOLUME"):
        return [quote(word) for word in readers._list(rest)]
    if keyword in ("CMD", "ENTRYPOINT", "RUN", "SHELL"):
        words = arguments.exec_form(rest)
        return [quote(word) for word in ([rest] if words is None and rest else words or [])]
    return [quote(rest)] if rest else []


@pytest.mark.parametrize("case", _cases("parser/testfiles"))
def test_what_the_published_dockerfiles_say(case: str) -> None:
    folder = _DOCKERFILE / "parser/testfiles" / case
    reader = Reader((folder / "Dockerfile").read_bytes().decode())
    shown = [f"({_dump(line.keyword, line.flags, line.rest, reader.escape)})" for line in reader]
    assert shown == (folder / "result").read_text().splitlines()


@pytest.mark.parametrize("case", _cases("parser/testfiles-negative"))
def test_the_published_dockerfiles_that_are_none(case: str) -> None:
    with pytest.raises(DockerfileError):
        parser.parse((_DOCKERFILE / "parser/testfiles-negative" / case / "Dockerfile").read_bytes())


def test_the_lines_of_the_published_file() -> None:
    reader = Reader((_DOCKERFILE / "parser/testfile-line/Dockerfile").read_bytes().decode())
    assert [(line.location.first, line.location.last) for line in reader] == [(5, 5), (11, 12), (17, 31)]


def test_the_published_words() -> None:
    environment = {"PWD": "/home", "SHELL": "bash", "KOREAN": "한국어", "NULL": ""}
    wrong = []
    for line in (_DOCKERFILE / "shell/envVarTest").read_text().splitlines():
        if not line.strip() or line.startswith(("#", "W")):
            continue
        _, source, expected = (part.strip() for part in line.split("|"))
        try:
            found = process(source, environment, Style()).text
        except DockerfileError:
            found = "error"
        if found != expected:
            wrong.append((source, expected, found))
    assert not wrong


def test_the_published_splits() -> None:
    environment: dict[str, str] = {}
    wrong = []
    for line in (_DOCKERFILE / "shell/wordsTest").read_text().splitlines():
        if line.startswith("ENV "):
            name, _, environment[name] = line[4:].lstrip(" ").partition("=")
            continue
        if not line.strip() or line.startswith("#"):
            continue
        source, expected = line.split("|")
        try:
            found = ",".join(process(source.strip(), environment, Style()).words)
        except DockerfileError:
            found = "error"
        if found != expected.lstrip(" "):
            wrong.append((source, expected, found))
    assert not wrong
