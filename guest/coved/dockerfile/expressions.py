"""Path patterns as regular expressions that take time linear in the path: none of them goes back far."""

from __future__ import annotations

import re
from collections.abc import Sequence

from coved.dockerfile.automaton import Char, Folders, Many, One, OneOf, Token

_SLASH = Char("/")
_STAR = Many("/")
_ANYTHING = Many("")


def is_simple(found: Sequence[Token]) -> bool:
    """Whether ``**`` stands only for whole folders, and for anything only at an end, and no class holds the slash.

    Then the leftmost match of each part between them is as good as any other, and the expression need not go back.
    """
    for before, token in zip([_SLASH, *found], found, strict=False):
        if isinstance(token, Folders) and before not in (_SLASH, Folders()):
            return False
    return _ANYTHING not in found[:-1] and not any(isinstance(token, OneOf) and token.has("/") for token in found)


def expression(found: Sequence[Token], end: str) -> str:
    """The expression of a simple pattern; ``end`` is that of the path's end, and is not asked for behind a last ``**``."""
    parts: list[list[Token]] = [[]]
    for token in found:
        if isinstance(token, Folders):
            parts.append([])
        else:
            parts[-1].append(token)
    *others, last = map(_part, parts)
    last += "" if found and found[-1] == _ANYTHING else end
    if not others:
        return last
    first, *middle = others
    return "".join([first, *(f"(?>(?:[^/]*/)*?{part})" for part in middle), f"(?:[^/]*/)*?{last}"])


def _part(found: Sequence[Token]) -> str:
    """An expression for what has no ``**`` within it; a part ends with a folder, with the path, or with anything."""
    segments: list[list[Token]] = [[]]
    for token in found[:-1] if found and found[-1] == _ANYTHING else found:
        if token == _SLASH:
            segments.append([])
        else:
            segments[-1].append(token)
    return "/".join(map(_segment, segments))


def _segment(found: Sequence[Token]) -> str:
    pieces = [""]
    for token in found:
        if token == _STAR:
            pieces.append("")
        else:
            pieces[-1] += _token(token)
    if len(pieces) == 1:
        return pieces[0]
    first, *middle, last = pieces
    return "".join([first, *(f"(?>[^/]*?{piece})" for piece in middle), f"[^/]*{last}"])


def _token(token: Token) -> str:
    match token:
        case Char():
            return re.escape(token.char)
        case One():
            return "[^/]"
        case OneOf():
            ranges = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in token.ranges if low <= high)
            return f"[{'^' * token.negated}{ranges}]" if ranges else "(?!)"
        case _:
            raise AssertionError(token)
