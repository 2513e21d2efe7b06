"""What of a play an engine has, by its labels, and its removal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cove.kube.play.engine import Engine, Refused
from cove.kube.play.plan import CLAIM, FILE, PLAY, POD, ROLE

AT_ONCE = 16
PATIENCE_S = 2.0
"""What takes longer to end is told."""
MOST_TOLD = 3
ENGINES_S = 10
"""What a container has that does not say how long it may take to end."""
T = TypeVar("T")


@dataclass
class Present:
    containers: list[dict[str, Any]] = field(default_factory=list)
    networks: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def there(self) -> bool:
        """Whether more than claims is there, which outlive a play."""
        return bool(self.containers or self.networks)

    @property
    def files(self) -> set[str]:
        """Of which files it was made."""
        return {each["Labels"].get(FILE, "") for each in self.containers}

    @property
    def pods(self) -> list[str]:
        return [_name(each) for each in self.containers if each["Labels"].get(ROLE) == "pod"]


@dataclass
class Removed:
    containers: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)


def look(engine: Engine, play: str) -> Present:
    query = {"filters": json.dumps({"label": [f"{PLAY}={play}"]})}
    containers = engine.call("GET", "/containers/json", {"all": "1", **query}) or []
    return Present(
        [each for each in containers if _made(each)],
        engine.call("GET", "/networks", query) or [],
        (engine.call("GET", "/volumes", query) or {}).get("Volumes") or [],
    )


def _made(container: dict[str, Any]) -> bool:
    """Whether a play has made it. A commit puts labels into images, and so onto what others run of them: names say more."""
    pod, name = container["Labels"].get(POD, ""), _name(container)
    return bool(pod) and (name == pod if container["Labels"].get(ROLE) == "pod" else name.startswith(f"{pod}-"))


def remove(
    engine: Engine, play: str, *, volumes: bool, gently: bool = True, say: Callable[[str], None] = lambda text: None
) -> Removed:
    """All that a play has made; its claims only with `volumes`. `gently`: containers get their time to end."""
    found, removed = look(engine, play), Removed()
    inner = [each for each in found.containers if each["Labels"].get(ROLE) != "pod"]
    outer = [each for each in found.containers if each["Labels"].get(ROLE) == "pod"]
    if gently:
        each_at_once(engine, inner, _stop, lambda waiting: say(_waited_for(engine, waiting)))
    for some in (inner, outer):
        each_at_once(engine, some, _delete)
        removed.containers += [_name(each) for each in some]
    for each in found.networks:
        _tolerant(engine, "DELETE", f"/networks/{each['Id']}")
        removed.networks.append(each["Name"])
    for each in found.volumes:
        if volumes or CLAIM not in (each.get("Labels") or {}):
            _tolerant(engine, "DELETE", f"/volumes/{each['Name']}")
            removed.volumes.append(each["Name"])
    return removed


def each_at_once(
    engine: Engine,
    some: Iterable[T],
    act: Callable[[Engine, T], object],
    tell: Callable[[list[T]], None] = lambda waiting: None,
) -> None:
    """Do it to all of them at the same time: each may take as long as a container takes to end. `tell` hears of those that do."""
    waiting = list(some)
    if not waiting:
        return
    with ThreadPoolExecutor(min(len(waiting), AT_ONCE)) as pool:
        asked = {pool.submit(act, engine.another(), one): one for one in waiting}
        _, going_on = wait(asked, PATIENCE_S)
        if going_on:
            tell([one for done, one in asked.items() if done in going_on])
        for done in asked:
            done.result()


def _stop(engine: Engine, container: dict[str, Any]) -> None:
    _tolerant(engine, "POST", f"/containers/{container['Id']}/stop")


def _waited_for(engine: Engine, containers: list[dict[str, Any]]) -> str:
    names, limits = [_name(each) for each in containers], [_time_to_end(engine, each) for each in containers]
    others = [f"{len(names) - MOST_TOLD} more"] if len(names) > MOST_TOLD else []
    return f"waiting for {', '.join([*names[:MOST_TOLD], *others])} to end (up to {max(limits)} s)"


def _time_to_end(engine: Engine, container: dict[str, Any]) -> int:
    try:
        limit = engine.call("GET", f"/containers/{container['Id']}/json")["Config"].get("StopTimeout")
    except Refused:  # it has ended, and was removed
        return 0
    return ENGINES_S if limit is None else int(limit)


def _delete(engine: Engine, container: dict[str, Any]) -> None:
    _tolerant(engine, "DELETE", f"/containers/{container['Id']}", {"force": "1", "v": "1"})


def _tolerant(engine: Engine, method: str, path: str, query: dict[str, Any] | None = None) -> None:
    """Somebody else may be as fast."""
    try:
        engine.call(method, path, query)
    except Refused as error:
        if error.code != 404:
            raise


def _name(container: dict[str, Any]) -> str:
    return str((container.get("Names") or ["/" + container["Id"][:12]])[0]).lstrip("/")
