"""What the page is told when something cannot be done."""

from __future__ import annotations

from typing import Any

from cove.errors import CoveError


class Refused(Exception):
    """An answer that is an error: the status of HTTP, `message` and `hint` for the user, and `more` for the page."""

    def __init__(self, status: int, message: str, hint: str = "", **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint
        self.more = more

    def shown(self) -> dict[str, Any]:
        return {"message": self.message, "hint": self.hint, **self.more}


def of(error: CoveError, status: int = 409) -> Refused:
    return Refused(status, error.message, error.hint)
