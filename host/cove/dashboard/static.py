"""The page's own files, which are built from host/dashboard and come with Cove."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cove.agent.threads import abandonable
from cove.dashboard.http import Answer, reply
from cove.dashboard.refusal import Refused

FOLDER = Path(__file__).parent / "assets"
PAGE = "index.html"
ENCODINGS = {"br": ".br", "gzip": ".gz"}
"""In the order of what is better, and the endings of files that are compressed so beside the ones that they are of."""
FOR_EVER = "public, max-age=31536000, immutable"
_HASHED = re.compile(r"-[A-Za-z0-9_-]{8,}\.[a-z0-9.]+$")
_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".md": "text/plain",
}
"""Those that a computer may have other words for, or none."""


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    type: str
    encoded: dict[str, Path] = field(default_factory=dict)


class Files:
    """All files of a folder, by their names as they are asked for: nothing that is not in this list is ever opened.

    ``dressed`` gives the page, the one file that is not the same for all, as it is to be sent; it may block.
    """

    def __init__(self, dressed: Callable[[str], str], folder: Path = FOLDER) -> None:
        self._dressed = dressed
        self._files: dict[str, _File] = {}
        endings = tuple(ENCODINGS.values())
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix not in endings:
                encoded = {
                    encoding: beside
                    for encoding, ending in ENCODINGS.items()
                    if (beside := path.with_name(path.name + ending)).is_file()
                }
                self._files[path.relative_to(folder).as_posix()] = _File(path, _type(path), encoded)

    async def answer(self, answer: Answer, name: str) -> None:
        """Raises `Refused` when there is no such file."""
        request = answer.request
        if request.method not in ("GET", "HEAD"):
            raise Refused(405, f"{request.method} is not for files")
        found = self._files.get(name or PAGE)
        if found is None:
            raise Refused(404, "there is no such page")
        headers = [("Content-Type", found.type)]
        if name in ("", PAGE):
            page = await abandonable(lambda: self._dressed(found.path.read_text(encoding="utf-8")))
            await reply(answer, 200, headers, page.encode())
            return
        path = found.path
        if found.encoded:
            headers.append(("Vary", "Accept-Encoding"))
            accepted = {each.partition(";")[0].strip() for each in (request.header("accept-encoding") or "").split(",")}
            if encoding := next((each for each in found.encoded if each in accepted), None):
                path = found.encoded[encoding]
                headers.append(("Content-Encoding", encoding))
        if _HASHED.search(name):
            headers.append(("Cache-Control", FOR_EVER))
        await reply(answer, 200, headers, path.read_bytes())


def _type(path: Path) -> str:
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
