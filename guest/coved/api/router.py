"""From method and path to the handler.

Patterns are paths with ``{name}`` for one segment and at most one ``{name*}`` for one or more of them (image names have
slashes). Matching compares segments: compiling a regular expression for each of a hundred routes would cost more at
start than all requests together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coved.api.http import Handler, Request, Response
from coved.errors import NotFound

if TYPE_CHECKING:
    from coved.engine import Engine


@dataclass(frozen=True, slots=True)
class Route:
    """``cancel_on_disconnect``: the handler is cancelled when the client leaves before it has answered."""

    method: str
    segments: tuple[str, ...]
    handler: Handler
    cancel_on_disconnect: bool

    def match(self, segments: list[str]) -> dict[str, str] | None:
        """The values of the pattern's names when it fits, else None."""
        return _match(self.segments, segments)


class Router:
    """All routes, looked up by their first segment."""

    def __init__(self) -> None:
        self._routes: dict[str, list[Route]] = {}

    def add(self, method: str, pattern: str, handler: Handler, *, cancel_on_disconnect: bool | None = None) -> None:
        """Adds a route; the first that fits wins, so specific patterns go before ``{name*}``.

        By default a GET ends with its client and everything else runs to its end: a container whose stop has begun is
        stopped, whether or not anyone waits for it. A call that only waits (``/containers/{id}/wait``) says True.
        """
        segments = tuple(pattern.strip("/").split("/"))
        if cancel_on_disconnect is None:
            cancel_on_disconnect = method == "GET"
        self._routes.setdefault(segments[0], []).append(Route(method, segments, handler, cancel_on_disconnect))

    def __iter__(self) -> Iterator[Route]:
        return (route for routes in self._routes.values() for route in routes)

    def resolve(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Raises ``NotFound`` for an unknown path, and for an unknown method on a known one, as dockerd does."""
        if method == "OPTIONS":
            return _OPTIONS, {}
        segments = path.removeprefix("/").split("/")
        for route in self._routes.get(segments[0], ()):
            if route.method == method and (match := route.match(segments)) is not None:
                return route, match
        raise NotFound("page not found")


async def _answer_options(engine: "Engine", request: Request) -> Response:
    """OPTIONS of anything, known or not, is an empty 200."""
    return Response(200)


_OPTIONS = Route("OPTIONS", ("*",), _answer_options, False)


def _match(pattern: tuple[str, ...], segments: list[str]) -> dict[str, str] | None:
    values: dict[str, str] = {}
    surplus = len(segments) - len(pattern)
    index = 0
    for part in pattern:
        if index >= len(segments):
            return None
        if part.endswith("*}"):
            if surplus < 0:
                return None
            value = "/".join(segments[index : index + surplus + 1])
            index += surplus + 1
            surplus = 0
            name = part[1:-2]
        elif part.startswith("{"):
            value = segments[index]
            index += 1
            name = part[1:-1]
        else:
            if segments[index] != part:
                return None
            index += 1
            continue
        if not value:
            return None
        values[name] = value
    return values if index == len(segments) else None
