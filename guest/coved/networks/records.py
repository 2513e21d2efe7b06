"""What sandboxes are open, in files beside the namespaces: they live as long as the boot, not as long as the engine.

A file is written before the first thing that it names is made, and removed after the last one is gone, so that the next
engine can take away what a dead one left half done. A reboot takes everything, so nothing is flushed to a disk.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coved.networks.model import Endpoint, PublishedPort


@dataclass(frozen=True)
class Record:
    """An open sandbox. ``mode`` is ``host``, ``none``, ``container:<id>``, or ``bridge`` for any bridge network."""

    container_id: str
    container_name: str
    mode: str
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    exposed: tuple[str, ...] = ()
    hostname: str = ""
    quiet: bool = False
    """No container's."""
    dns: tuple[str, ...] = ()
    """Servers that it was given; () are this machine's."""
    ndots: bool = False
    """Its resolver appends domains to names first (``--dns-option ndots:N``)."""

    @property
    def shares(self) -> str:
        """Id of the container whose namespace this one joined; "" when it has its own."""
        return self.mode.removeprefix("container:") if self.mode.startswith("container:") else ""

    @property
    def has_namespace(self) -> bool:
        return self.mode in ("none", "bridge")


class Records:
    """One file per open sandbox."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def save(self, record: Record) -> None:
        path = self._directory / f"{record.container_id}.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(record)))
        os.replace(temporary, path)  # noqa: PTH105 -- Path.replace is this, a call deeper

    def remove(self, container_id: str) -> None:
        (self._directory / f"{container_id}.json").unlink(missing_ok=True)

    def load(self) -> Iterator[Record]:
        """All records; a file that is not one (a kill between write and rename) is removed."""
        for path in list(self._directory.iterdir()):
            record = None
            if path.suffix == ".json":
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    record = _from_json(json.loads(path.read_text()))
            if record is None:
                path.unlink()
            else:
                yield record


def _from_json(value: dict[str, Any]) -> Record:
    endpoints = tuple(Endpoint.from_json(item) for item in value["endpoints"])
    ports = tuple(PublishedPort(**item) for item in value["ports"])
    return Record(
        **{
            **value,
            "endpoints": endpoints,
            "ports": ports,
            "exposed": tuple(value["exposed"]),
            "dns": tuple(value.get("dns", ())),
        }
    )
