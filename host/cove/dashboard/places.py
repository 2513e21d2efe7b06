"""The dashboard's process of a machine, as other processes see it."""

from __future__ import annotations

from cove.support import companion

KIND = "dashboard"


class Places(companion.Companion):
    """Raises `CoveError` for a name that no machine can have."""

    def __init__(self, name: str) -> None:
        super().__init__(KIND, name)


def served() -> list[str]:
    """The machines whose dashboards have left files: their processes may run."""
    return companion.left(KIND)
