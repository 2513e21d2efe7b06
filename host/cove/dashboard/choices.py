"""What a user has chosen of the page: its language, its colours, whether the first steps were seen.

A browser keeps such things by host and port, and each dashboard has another port (docs/decisions/0064). So they are kept here, for all
machines, and written into the page before it is sent: it has the right colours in its first picture.
"""

from __future__ import annotations

import asyncio
import html
import json
import re
from pathlib import Path

from cove.agent.threads import abandonable
from cove.dashboard.http import Answer, read_whole, reply_json
from cove.dashboard.refusal import Refused
from cove.machine.files import write_whole
from cove.machine.paths import config_dir

_BOTH = ("yes", "no")
ALLOWED = {
    "language": ("en", "ja"), "theme": ("system", "light", "dark"), "toured": ("yes",), "letters": _BOTH, "reader": _BOTH, "times": _BOTH,
}  # fmt: skip
MAX_BODY = 1 << 10
MAX_FILE = 1 << 12
_ROOT = re.compile(r"<html[^>]*>")


def place() -> Path:
    return config_dir() / "dashboard.json"


class Choices:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._changing = asyncio.Lock()

    async def show(self, answer: Answer) -> None:
        await reply_json(answer, await abandonable(self.kept))

    async def change(self, answer: Answer) -> None:
        """Raises `Refused`."""
        try:
            wish = json.loads(await read_whole(answer, MAX_BODY))
        except (ValueError, RecursionError):
            wish = None
        if not isinstance(wish, dict) or _allowed(wish) != wish:
            raise Refused(422, "this is no choice that the page has")
        async with self._changing:
            try:
                await reply_json(answer, await abandonable(self._change, wish))
            except OSError as error:
                raise Refused(500, f"the choice cannot be kept: {error}") from None

    def kept(self) -> dict[str, str]:
        """Nothing of what is no choice, whoever has written it."""
        try:
            with self._path.open("rb") as file:
                return _allowed(json.loads(file.read(MAX_FILE)))
        except (OSError, ValueError, RecursionError):
            return {}

    def dressed(self, page: str) -> str:
        """The page as was chosen."""
        kept = self.kept()
        told = {"lang": kept.get("language", "en"), "data-choices": json.dumps(kept)}
        if (theme := kept.get("theme", "system")) != "system":
            told["data-theme"] = theme
        attributes = "".join(f' {name}="{html.escape(value)}"' for name, value in told.items())
        return _ROOT.sub(lambda _: f"<html{attributes}>", page, count=1)

    def _change(self, wish: dict[str, str]) -> dict[str, str]:
        """Raises `OSError`."""
        kept = {**self.kept(), **wish}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._path, json.dumps(kept).encode())
        return kept


def _allowed(told: object) -> dict[str, str]:
    if not isinstance(told, dict):
        return {}
    return {key: value for key, value in told.items() if isinstance(value, str) and value in ALLOWED.get(key, ())}
