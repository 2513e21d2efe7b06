"""Documents in a Dockerfile: ``<<EOF`` and their like."""

from __future__ import annotations

import re
from dataclasses import dataclass

from coved.dockerfile import words
from coved.dockerfile.instructions import DockerfileError

_HEREDOC = re.compile(r"\d*<<(-?)[\t\n\f\r ]*([^<]*)", re.ASCII)
_TABS = re.compile(r"^\t+", re.MULTILINE)
_LINE = words.Style(raw_quotes=True, raw_escapes=True, keep_unset=True)
_NAME = words.Style(keep_unset=True)
_QUOTED_NAME = words.Style(keep_unset=True, raw_quotes=True)


@dataclass(frozen=True)
class Start:
    """``chomp``: it was ``<<-``; not ``expand``: the name was quoted."""

    name: str
    expand: bool
    chomp: bool


def start(word: str) -> Start | None:
    """The document that a word begins, None for other words; raises ``DockerfileError``."""
    match = _HEREDOC.fullmatch(word)
    if not match or not match[2]:
        return None
    plain = words.process(match[2], {}, _NAME).words
    if len(plain) != 1:
        return None
    quoted = words.process(match[2], {}, _QUOTED_NAME).words
    if len(quoted) != 1:
        raise DockerfileError(f"internal lexing of heredoc produced inconsistent results: {match[2]}")
    return Start(plain[0], _quotes(plain[0]) == _quotes(quoted[0]), match[1] == "-")


def maybe_start(word: str) -> Start | None:
    """The same for a word that may be anything."""
    try:
        return start(word)
    except DockerfileError:
        return None


def starts(line: str) -> list[Start]:
    """The documents that an instruction's line begins, in order; raises ``DockerfileError``."""
    try:
        found = words.process(line, {}, _LINE).words
    except DockerfileError:
        return []
    return [document for word in found if "<<" in word and (document := start(word))]


def chomp(content: str) -> str:
    """Without the tabs that lines begin with."""
    return _TABS.sub("", content)


def _quotes(word: str) -> int:
    return word.count("'") + word.count('"')
