"""Parser directives: ``# name=value`` in the first lines of a Dockerfile (docs.docker.com/reference/dockerfile)."""

from __future__ import annotations

import json
import re
from contextlib import suppress

from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.text import SPACE

_NAMES = frozenset({"syntax", "escape", "check"})
_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+)", re.DOTALL)
_BOM = "\ufeff"


class Directives:
    """What the lines so far have said; the first line that is none of it ends them."""

    def __init__(self, comment: str = "#") -> None:
        self._comment = comment
        self._done = False
        self.found: dict[str, str] = {}

    def read(self, line: str) -> str | None:
        """The name of the directive that a line is; raises ``DockerfileError`` for one that there was already."""
        if self._done:
            return None
        directive = _directive(line[len(self._comment) :]) if line.startswith(self._comment) else None
        if directive is None:
            self._done = True
            return None
        name, value = directive
        if name in self.found:
            raise DockerfileError(f"only one {name} parser directive can be used")
        self.found[name] = value
        return name


def _directive(text: str) -> tuple[str, str] | None:
    match = _DIRECTIVE.fullmatch(text.lstrip(SPACE).rstrip("\t\n\f\r "))
    if not match or match[1].lower() not in _NAMES:
        return None
    return match[1].lower(), match[2]


def comment_directive(comment: str, name: str) -> str | None:
    """The value of a directive that a comment above an instruction is; None when it is not this one."""
    directive = _directive(comment)
    return directive[1] if directive and directive[0] == name else None


def check_escape(value: str) -> str:
    """Raises ``DockerfileError`` for a character that cannot be the escape character."""
    if value not in ("\\", "`"):
        raise DockerfileError(f"invalid escape token '{value}' does not match ` or \\")
    return value


def syntax(data: bytes) -> str | None:
    """The image of the frontend that a build file wants; a "# syntax=", a "// syntax=" or a JSON object may say so.

    The file need not be a Dockerfile then. A first line "#!" is passed over.
    """
    text = data.decode("utf-8", "replace")
    found = find(text, "syntax") or find(text, "syntax", "//")
    return found.partition(" ")[0] if found else _syntax_in_json(_without_shebang(text))


def find(text: str, name: str, comment: str = "#") -> str | None:
    """The value of a directive in the first lines of a file, which may follow a line "#!"."""
    directives = Directives(comment)
    with suppress(DockerfileError):
        for line in _without_shebang(text).split("\n"):
            if directives.read(line.rstrip("\r")) is None:
                break
    return directives.found.get(name)


def _without_shebang(text: str) -> str:
    text = text.removeprefix(_BOM)
    return text.partition("\n")[2] if text.startswith("#!") else text


def _syntax_in_json(text: str) -> str | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    image = value.get("syntax") if isinstance(value, dict) else None
    return image if isinstance(image, str) else None
