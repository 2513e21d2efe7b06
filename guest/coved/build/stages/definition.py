"""The Dockerfile of a build, read and checked. The same ones come again and again, and are not read each time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from coved.build.errors import BadDockerfile
from coved.build.request import Request
from coved.build.stages import classic
from coved.dockerfile.instructions import Dockerfile, DockerfileError, Warning
from coved.dockerfile.lint import check, options_of, violation
from coved.dockerfile.parser import parse

_KNOWN_MAX = 50
_KNOWN_TEXT_MAX = 64 << 10
"""Bytes; longer ones are not kept."""
_CHECK = "BUILDKIT_DOCKERFILE_CHECK"


@dataclass(frozen=True)
class Definition:
    dockerfile: Dockerfile
    warnings: Sequence[Warning]
    violated: str
    """Why the build fails that wants to with warnings; "" when it goes on."""


class Definitions:
    """Belongs to the event loop."""

    def __init__(self) -> None:
        self._known: dict[object, Definition] = {}
        """The latest used last."""

    async def read(self, text: bytes, request: Request, filename: str) -> Definition:
        """Raises BadDockerfile that says where."""
        given = {name: value for name, value in request.build_args.items() if value is not None}
        # Of errors the words depend on the request, so they are found again.
        what = text, filename, request.target, tuple(sorted(given.items()))
        found = self._known.pop(what, None)
        if found is None:  # in a thread, for one that means harm takes seconds
            found = await asyncio.to_thread(_read, text, request, filename, given)
        if len(text) <= _KNOWN_TEXT_MAX:
            self._known[what] = found
            if len(self._known) > _KNOWN_MAX:
                del self._known[next(iter(self._known))]
        return found


def _read(text: bytes, request: Request, filename: str, given: dict[str, str]) -> Definition:
    try:
        dockerfile = parse(text)
    except DockerfileError as error:
        if request.in_order:
            error = classic.unreadable(error, request.dockerfile)
        raise located(error, filename, text.decode("utf-8", "replace")) from None
    try:
        options = options_of(dockerfile, given.get(_CHECK))
    except DockerfileError as error:
        raise located(error, filename, dockerfile.text) from None
    found = check(dockerfile, options=options, target=request.target, build_args=given)
    warnings = [replace(each, filename=filename, text=dockerfile.text) for each in found]
    return Definition(dockerfile, warnings, violation(warnings, options))


def located(error: DockerfileError, filename: str, text: str) -> BadDockerfile:
    return BadDockerfile(str(error), location=error.location, filename=filename, text=text)
