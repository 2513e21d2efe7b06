"""The dashboard's process of a machine, as other processes see it."""

from __future__ import annotations

from pathlib import Path

from cove.support import companion

KIND = "dashboard"


class Places(companion.Companion):
    """Raises `CoveError` for a name that no machine can have."""

    def __init__(self, name: str) -> None:
        super().__init__(KIND, name)

    @property
    def port(self) -> Path:
        """Where the last process listened: to a browser, what it keeps for a page belongs to its port."""
        return self.folder / f"{self.name}.port"


def served() -> list[str]:
    """The machines whose dashboards have left files: their processes may run."""
    return companion.left(KIND)
