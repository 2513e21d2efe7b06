"""An image that was built goes to its registry, as a step of the build's progress."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cove.build.solve import BuildFailed
from cove.build.status import Part, Status, Vertex
from cove.cli.client import EngineClient, quote
from cove.cli.credentials import find_quietly, registry_key
from cove.cli.docker_config import DockerConfig
from cove.cli.errors import CliError
from cove.cli.reference import parse_reference

Tell = Callable[[Status], None]


async def push(engine: Path, config: DockerConfig, name: str, tell: Tell) -> str:
    """Ask the engine to push `name`; the digest that the registry knows it by, "" for an unknown one. Raises `BuildFailed`."""
    loop = asyncio.get_running_loop()
    vertex = Vertex(f"sha256:{secrets.token_hex(32)}", f"pushing {name} with docker", started=time.time_ns())
    tell(Status([vertex]))
    pushing = _Pushing(vertex.digest, lambda status: loop.call_soon_threadsafe(tell, status))
    try:
        await asyncio.to_thread(pushing.run, engine, config, name)
    except CliError as error:
        tell(Status([replace(vertex, completed=time.time_ns(), error=error.message)]))
        raise BuildFailed(error.message) from error
    tell(Status([replace(vertex, completed=time.time_ns())]))
    return pushing.digest


class _Pushing:
    """One push, in a thread of its own."""

    def __init__(self, vertex: str, tell: Callable[[Status], object]) -> None:
        self.digest = ""
        self._vertex = vertex
        self._tell = tell
        self._parts: dict[str, Part] = {}

    def run(self, engine: Path, config: DockerConfig, name: str) -> None:
        """Raises `CliError`."""
        from cove.cli.jsonmessage import show

        reference = parse_reference(name).tagged()
        known = find_quietly(config, registry_key(reference.domain))
        path = "/images/" + "/".join(quote(part) for part in reference.name.split("/")) + "/push"
        headers = [("X-Registry-Auth", known.header())]
        response = EngineClient(engine).request("POST", path, {"tag": reference.tag}, headers=headers)
        show(self._noted(response.json_lines()), None, self._take)
        now = time.time_ns()
        for part in self._parts.values():
            if part.completed is None:
                self._tell(Status(parts=[replace(part, timestamp=now, completed=now)]))

    def _noted(self, messages: Any) -> Any:
        for message in messages:
            self._note(message)
            yield message

    def _take(self, aux: Any) -> None:
        if isinstance(aux, dict) and isinstance(aux.get("Digest"), str):
            self.digest = aux["Digest"]

    def _note(self, message: dict[str, Any]) -> None:
        """A layer's progress."""
        layer, detail, done = message.get("id"), message.get("progressDetail"), message.get("status") == "Pushed"
        if not isinstance(layer, str) or not layer or not (done or (isinstance(detail, dict) and detail)):
            return
        now, id = time.time_ns(), f"pushing layer {layer}"
        part = self._parts.get(id) or Part(id, self._vertex, started=now)
        part = replace(part, timestamp=now)
        if isinstance(detail, dict) and detail:
            part = replace(part, current=_number(detail, "current"), total=_number(detail, "total"))
        if done:
            part = replace(part, completed=now, current=part.total)
        self._parts[id] = part
        self._tell(Status(parts=[part]))


def _number(detail: dict[str, Any], name: str) -> int:
    value = detail.get(name)
    return value if isinstance(value, int) else 0
