"""Stand-in for coved.dockerfile.wildcards and .ignore until they are merged."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence


def has_wildcards(text: str) -> bool:
    skip = False
    for char in text:
        if skip:
            skip = False
        elif char == "\\":
            skip = True
        elif char in "*?[":
            return True
    return False


def _regex(pattern: str, *, deep: bool) -> str:
    out, i = "", 0
    while i < len(pattern):
        char = pattern[i]
        i += 1
        if char == "*":
            if deep and pattern[i : i + 1] == "*":
                i += 1
                if pattern[i : i + 1] == "/":
                    i += 1
                out += ".*" if i >= len(pattern) else "(.*/)?"
            else:
                out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[":
            end = pattern.find("]", i + 1)
            if end < 0:
                raise ValueError("syntax error in pattern")
            body = pattern[i:end]
            i = end + 1
            out += f"[{body}]"
        elif char == "\\":
            if i == len(pattern):
                raise ValueError("syntax error in pattern")
            out += re.escape(pattern[i])
            i += 1
        else:
            out += re.escape(char)
    return out


class Pattern:
    def __init__(self, text: str) -> None:
        self._regex = re.compile(_regex(text, deep=False), re.DOTALL)

    def matches(self, name: str) -> bool:
        return self._regex.fullmatch(name) is not None


class Matcher:
    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns: list[tuple[bool, re.Pattern[str]]] = []
        for text in patterns:
            text = text.strip()
            if not text:
                continue
            negated = text.startswith("!")
            clean = posixpath.normpath(text[1:] if negated else text)
            self._patterns.append((negated, re.compile(_regex(clean, deep=True), re.DOTALL)))
        self.has_exceptions = any(negated for negated, _ in self._patterns)

    def matches(self, path: str) -> bool:
        parts = path.split("/")
        prefixes = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        matched = False
        for negated, regex in self._patterns:
            if negated == matched and any(regex.fullmatch(prefix) for prefix in prefixes):
                matched = not negated
        return matched
