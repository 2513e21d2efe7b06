"""From a command to a dashboard that is served. Light to import."""

from __future__ import annotations

from importlib.metadata import version

from cove.dashboard.places import Places
from cove.errors import CoveError

START_S = 30.0


def address(name: str, module: str) -> str:
    """Where the dashboard of a machine is opened, once and within a minute; its process, ``python -m module name``, is started when
    none runs, and in the place of another Cove's. Raises `CoveError`.
    """
    places = Places(name)
    told, _ = places.ensure(version("cove"), ["-m", module, name], START_S)
    if told is None or "url" not in told:
        raise CoveError("the dashboard does not answer as agreed", f"its log is {places.log}")
    return str(told["url"])


def end(name: str) -> None:
    """End the dashboard of a machine if it runs, and wait for that. Raises `CoveError`."""
    Places(name).end()
