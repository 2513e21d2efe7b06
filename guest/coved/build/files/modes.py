"""The modes that ``--chmod`` gives: a number, or what chmod(1) calls symbolic, as BuildKit reads them."""

from __future__ import annotations

from dataclasses import dataclass

from coved.build.errors import BuildError

_CLASSES = {"u": 0o4700, "g": 0o2070, "o": 0o0007, "a": 0o6777}
_ALL = 0o6777
_SETID, _STICKY = 0o6000, 0o1000
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "s": _SETID}
_SHIFT = {"u": 6, "g": 3, "o": 0}


@dataclass(frozen=True)
class _Step:
    """One operation: of the bits ``who``, those in ``bits`` are set, cleared, or put in place of all."""

    operator: str
    who: int
    bits: int = 0
    copied: str = ""
    """The class whose bits are taken instead of ``bits``."""
    conditional: bool = False
    """X: only of a directory, or of what somebody may execute already."""


@dataclass(frozen=True)
class Mode:
    """What a file's mode becomes."""

    absolute: int | None = None
    """0..0o7777, for every file and directory; None when ``steps`` tell."""
    steps: tuple[_Step, ...] = ()

    def of(self, mode: int, *, directory: bool) -> int:
        """``mode`` are the permission bits that it has."""
        if self.absolute is not None:
            return self.absolute
        new = mode
        for step in self.steps:
            bits = step.bits
            if step.copied:
                bits = (new >> _SHIFT[step.copied] & 0o7) * 0o111
            elif step.conditional and not (mode & 0o111 or directory):
                continue
            if step.operator == "=":
                new &= ~step.who
            if step.operator == "-":
                new &= ~(bits & step.who)
            else:
                new |= bits & step.who
        return new


def parse(text: str) -> Mode:
    """Raises BuildError in BuildKit's words."""
    if text[:1].isdecimal():
        if not all(digit in "01234567" for digit in text) or int(text, 8) > 0o7777:
            raise BuildError(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
        return Mode(absolute=int(text, 8))
    return Mode(steps=tuple(step for clause in text.split(",") for step in _clause(clause)))


def _clause(text: str) -> list[_Step]:
    """Such as ``ug+rX-w``."""
    index, who = 0, 0
    while index < len(text) and text[index] in _CLASSES:
        who |= _CLASSES[text[index]]
        index += 1
    only_others = who == _CLASSES["o"]
    who = who or _ALL
    steps: list[_Step] = []
    if index == len(text):
        raise BuildError("invalid syntax")
    while index < len(text):
        operator = text[index]
        if operator not in "+-=":
            raise BuildError("invalid syntax")
        end = next((place for place in range(index + 1, len(text)) if text[place] in "+-="), len(text))
        steps += _operation(operator, who, text[index + 1 : end], only_others=only_others)
        index = end
    return steps


def _operation(operator: str, who: int, letters: str, *, only_others: bool) -> list[_Step]:
    """Such as ``+rX``. Each copy of another class's bits is a step of its own."""
    steps: list[_Step] = []
    bits = 0
    conditional = False
    for letter in letters:
        if letter in _SHIFT:
            if bits:
                steps.append(_Step(operator, who, bits))
                bits = 0
            steps.append(_Step(operator, who, copied=letter))
        elif letter == "X":
            conditional = operator == "+"  # elsewhere it says nothing
        elif letter == "t":
            bits |= 0 if only_others else _STICKY
        elif letter in _BITS:
            bits |= 0 if letter == "s" and only_others else _BITS[letter]
        else:
            raise BuildError("invalid syntax")
    if bits or (operator == "=" and not steps):
        steps.append(_Step(operator, who | (bits & _STICKY), bits))
    if conditional:
        steps.append(_Step("+", who, 0o111, conditional=True))
    return steps
