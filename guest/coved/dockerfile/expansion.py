"""Variables replaced in instructions, where the language replaces them (docs.docker.com/reference/dockerfile, "Environment
replacement")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from coved.dockerfile import mounts
from coved.dockerfile.instructions import (
    Arg,
    Copy,
    DockerfileError,
    Env,
    Expose,
    Heredoc,
    Instruction,
    Label,
    Run,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from coved.dockerfile.words import Style, Words, process

_DOCUMENT = Style(quotes=False)
"""A document's quotes are its own, and its escape character is always the backslash."""


@dataclass
class Expander:
    """Expands, and gathers which variables were asked for: ``used`` those that there are, ``unset`` the others."""

    environment: Mapping[str, str]
    escape: str = "\\"
    keep_unset: bool = False
    """A variable that is not set stays as it was written."""
    used: set[str] = field(default_factory=set)
    unset: set[str] = field(default_factory=set)

    def instruction(self, instruction: Instruction) -> Instruction:
        """Raises ``DockerfileError``, at the instruction's location."""
        try:
            return self._expanded(instruction)
        except DockerfileError as error:
            raise DockerfileError(str(error), instruction.location) from None

    def text(self, text: str) -> str:
        """Raises ``DockerfileError``, without a location."""
        return self._process(text, Style(escape=self.escape, keep_unset=self.keep_unset)).text

    def words(self, text: str) -> tuple[str, ...]:
        """What the text has become split at its spaces, but for quoted ones; raises ``DockerfileError``."""
        return self._process(text, Style(escape=self.escape, keep_unset=self.keep_unset)).words

    def _process(self, text: str, style: Style) -> Words:
        result = process(text, self.environment, style)
        self.used |= result.used
        self.unset |= result.unset
        return result

    def _pairs(self, pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        return tuple((self.text(name), self.text(value)) for name, value in pairs)

    def _document(self, document: Heredoc) -> Heredoc:
        if not document.expand:
            return document
        return replace(document, content=self._process(document.content, _DOCUMENT).text)

    def _expanded(self, instruction: Instruction) -> Instruction:
        match instruction:
            case Arg():
                pairs = ((name, None if value is None else self.text(value)) for name, value in instruction.pairs)
                return replace(instruction, pairs=tuple(pairs))
            case Env() | Label():
                return replace(instruction, pairs=self._pairs(instruction.pairs))
            case Copy():
                return replace(
                    instruction,
                    chown=self.text(instruction.chown),
                    chmod=self.text(instruction.chmod),
                    checksum=self.text(instruction.checksum),
                    sources=tuple(map(self.text, instruction.sources)),
                    destination=self.text(instruction.destination),
                    documents=tuple(map(self._document, instruction.documents)),
                )
            case Run():
                return replace(
                    instruction, mounts=tuple(mounts.mount(flag, self.text) for flag in instruction.mount_flags)
                )
            case Expose():
                ports = tuple(word for port in instruction.ports for word in self.words(port))
                return replace(instruction, ports=ports)
            case Volume():
                paths = tuple(map(self.text, instruction.paths))
                if not all(paths):
                    raise DockerfileError("VOLUME specified can not be an empty string")
                return replace(instruction, paths=paths)
            case User():
                return replace(instruction, user=self.text(instruction.user))
            case Workdir():
                return replace(instruction, path=self.text(instruction.path))
            case Stopsignal():
                return replace(instruction, signal=self.text(instruction.signal))
            case _:
                return instruction


def expand(instruction: Instruction, environment: Mapping[str, str], escape: str = "\\") -> Instruction:
    """The instruction with its variables replaced; raises ``DockerfileError``.

    All of an instruction sees the same environment, so ``ENV a=1 b=$a`` takes an older ``a``. ARG is the exception: each of
    its defaults may use the names before it, which may have other values than their defaults, so whoever carries it out
    expands it name by name.
    """
    return Expander(environment, escape).instruction(instruction)


def expand_text(text: str, environment: Mapping[str, str], escape: str = "\\") -> str:
    """A text such as FROM's image and platform, or an ARG's default; raises ``DockerfileError``, without a location."""
    return Expander(environment, escape).text(text)


def expand_title(source: str, environment: Mapping[str, str], escape: str = "\\", *, command: bool = False) -> str:
    """An instruction's first line as progress shows it: its keyword in capitals, its variables replaced where that works.

    ``command``: it is RUN, whose quotes and unknown variables stay, for the shell sees them.
    """
    line = source.partition("\n")[0]
    style = Style(escape=escape, raw_quotes=command, keep_unset=command)
    with suppress(DockerfileError):
        line = process(line, environment, style).text
    keyword, space, rest = line.partition(" ")
    return keyword.upper() + space + rest
