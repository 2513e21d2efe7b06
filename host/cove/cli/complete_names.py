"""Names for completion, from an engine that runs already: silent, and within a bound of time."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cove.local.sockets import at
from cove.machine import engine

BOUND_S = 1.0
"""An engine that takes longer has no names, for somebody waits with a finger on a key."""
_STATES = {"running": ("running", "paused"), "paused": ("paused",), "stopped": ("created", "exited", "dead")}


class Names:
    """Of the engine that `-m` and `-H` on the line mean, or the environment."""

    def __init__(self, machine: str, host: str) -> None:
        self._machine = machine
        self._host = host
        self._deadline = 0.0

    def of(self, kind: str, current: str) -> list[tuple[str, str]]:
        """Names of a kind, and what is said of each; none when the engine does not answer."""
        if kind == "machines":
            return [(name, "") for name in self._machines()]
        found: list[tuple[str, str]] = []
        for one in ("containers", "images", "networks", "volumes") if kind == "objects" else (kind,):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                found += list(self._ask(one, current))
        return found

    def _machines(self) -> list[str]:
        from cove.machine import lifecycle

        return lifecycle.names()

    def _ask(self, kind: str, current: str) -> Iterator[tuple[str, str]]:
        if kind == "images":
            for image in self._get("/images/json"):
                for tag in image.get("RepoTags") or ():
                    if tag != "<none>:<none>":
                        yield tag, ""
                        # The tag is said when it is asked for, or is not the usual one.
                        if tag.endswith(":latest") and ":" not in current:
                            yield tag.removesuffix(":latest"), ""
        elif kind == "networks":
            for network in self._get("/networks"):
                yield network["Name"], f"{network['Driver']} network"
        elif kind == "volumes":
            for volume in self._get("/volumes")["Volumes"] or ():
                yield volume["Name"], f"{volume['Driver']} volume"
        else:
            states = _STATES.get(kind)
            for container in self._get("/containers/json?all=1"):
                if states is None or container["State"] in states:
                    name = str(container["Names"][0]).removeprefix("/")
                    yield name, f"{container['Image']}, {container['Status']}"

    def _get(self, path: str) -> Any:
        self._deadline = self._deadline or time.monotonic() + BOUND_S
        return engine.get(self._socket(), path, self._deadline)

    def _socket(self) -> Path:
        """Raises `FileNotFoundError` for a machine whose engine would have to be started first."""
        from cove.machine.paths import DEFAULT_MACHINE, MachinePaths

        if host := self._host or ("" if self._machine else os.environ.get("COVE_HOST", "")):
            if (path := at(host)) is None:
                raise FileNotFoundError(host)
            return path
        paths = MachinePaths(self._machine or os.environ.get("COVE_MACHINE") or DEFAULT_MACHINE)
        if paths.down.exists() or paths.suspended_run.exists():
            raise FileNotFoundError(paths.docker_socket)
        return paths.docker_socket
