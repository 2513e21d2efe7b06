"""From method and path to the handler.

Patterns are paths with ``{name}`` for one segment and at most one ``{name*}`` for one or more of them (image names have
slashes). Matching compares segments: compiling a regular expression for each of a hundred routes would cost more at
start than all requests together.
"""

from dataclasses import dataclass

from coved.api.http import Handler
from coved.errors import EngineError, NotFound


class MethodNotAllowed(EngineError):
    """The path exists, for other methods (405)."""

    status = 405


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

    def resolve(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Raises ``NotFound`` for an unknown path and ``MethodNotAllowed`` for an unknown method on a known one."""
        segments = path.removeprefix("/").split("/")
        known = False
        for route in self._routes.get(segments[0], ()):
            match = route.match(segments)
            if match is None:
                continue
            if route.method == method:
                return route, match
            known = True
        if known:
            raise MethodNotAllowed("method not allowed")
        raise NotFound("page not found")


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
