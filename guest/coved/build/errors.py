"""How a build fails."""

from __future__ import annotations

from collections.abc import Sequence

from coved.dockerfile.instructions import Location, Warning
from coved.errors import EngineError


class BuildError(EngineError):
    """Of one step, in BuildKit's words. ``location`` is the instruction's in the Dockerfile ``filename``, whose text is ``text``."""

    def __init__(
        self, message: str, *, location: Location | None = None, filename: str = "", text: str = "",
        exit_code: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.location = location
        self.filename = filename
        self.text = text
        self.exit_code = exit_code
        """Of what RUN ran."""


class BadDockerfile(BuildError):
    """The Dockerfile, or what is asked of it, cannot be right (400)."""

    status = 400
    warnings: Sequence[Warning] = ()
    """What was found before it."""
