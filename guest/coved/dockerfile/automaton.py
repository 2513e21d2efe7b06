"""Wildcard patterns matched in time linear in the text, whatever the pattern.

Regular expressions that go back and try again take powers of the text's length for ``*a*b*c*``; here every place of the
pattern that a match may have got to is a bit of one number, and a character moves them all at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Char:
    """This character."""

    char: str


@dataclass(frozen=True)
class One:
    """Any character but one."""

    but: str


@dataclass(frozen=True)
class Many:
    """Any characters but one, and none as well."""

    but: str


@dataclass(frozen=True)
class OneOf:
    """A character between the ends of a range, or of none if ``negated``; a slash as well, as with Go's filepath.Match."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False

    def has(self, char: str) -> bool:
        return any(low <= char <= high for low, high in self.ranges) != self.negated


@dataclass(frozen=True)
class Folders:
    """``**/``: nothing, or anything that ends in a slash."""


Token = Char | One | Many | OneOf | Folders


class Automaton:
    """A pattern's places, bit by bit; the last is behind its end."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._chars: dict[str, int] = {}
        self._wild: list[tuple[One | Many | OneOf, int]] = []
        self._skip_one = self._skip_two = self._folders = 0
        bit = 1
        for token in tokens:
            match token:
                case Char():
                    self._chars[token.char] = self._chars.get(token.char, 0) | bit
                case Folders():
                    self._skip_two |= bit
                    bit <<= 1
                    self._folders |= bit
                case _:
                    self._wild.append((token, bit))
                    self._skip_one |= bit if isinstance(token, Many) else 0
            bit <<= 1
        self._final = bit
        self._moves: dict[str, tuple[int, int]] = {}
        self._start = self._settled(1)

    def _settled(self, places: int) -> int:
        """With the places that can be got to from these by no character."""
        while True:
            more = places | (places & self._skip_one) << 1
            more |= (more & self._skip_two) << 1 | (more & self._skip_two) << 2
            if more == places:
                return places
            places = more

    def _move(self, char: str) -> tuple[int, int]:
        """The places that this character leads on from, and those it leaves as they are."""
        known = self._moves.get(char)
        if known is None:
            onward, staying = self._chars.get(char, 0), self._folders
            onward |= self._folders if char == "/" else 0
            for token, bit in self._wild:
                if isinstance(token, Many):
                    staying |= bit if token.but != char else 0
                elif token.has(char) if isinstance(token, OneOf) else token.but != char:
                    onward |= bit
            known = self._moves[char] = (onward, staying)
        return known

    def _after(self, places: int, char: str) -> int:
        onward, staying = self._move(char)
        return self._settled((places & onward) << 1 | places & staying)

    def ends(self, text: str, start: int = 0) -> Iterator[int]:
        """Where matches that begin at ``start`` end, nearest first."""
        places = self._start
        if places & self._final:
            yield start
        for position in range(start, len(text)):
            places = self._after(places, text[position])
            if places & self._final:
                yield position + 1
            if not places:
                return

    def anywhere(self, text: str) -> Iterator[int]:
        """Where matches end that begin anywhere."""
        places = self._start
        if places & self._final:
            yield 0
        for position, char in enumerate(text, 1):
            places = self._after(places, char) | self._start
            if places & self._final:
                yield position

    def matches(self, text: str) -> bool:
        """Whether all of the text matches."""
        places = self._run(text)
        return bool(places & self._final)

    def may_begin_with(self, text: str) -> bool:
        """Whether something that begins with the text can match."""
        return bool(self._run(text))

    def _run(self, text: str) -> int:
        places = self._start
        for char in text:
            places = self._after(places, char)
            if not places:
                break
        return places
