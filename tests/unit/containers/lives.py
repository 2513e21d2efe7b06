"""What the tests of containers' lives share: a container, its shim, and a life, as far as they go without an engine."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

from coved.containers.config import Request
from coved.containers.container import NS, Container, State
from coved.containers.life import Life


def made(name: str = "web", status: str = "created", policy: str = "no", *, auto_remove: bool = False) -> Container:
    host = {"RestartPolicy": {"Name": policy, "MaximumRetryCount": 0}, "AutoRemove": auto_remove}
    config = {"Labels": {}, "Healthcheck": None}
    state = State(status) if status == "created" else State(status, started_at=NS, finished_at=NS)
    id = name.encode().hex().ljust(64, "0")
    return Container(id, name, "sha256:0", "busybox", Request(config, host, ()), [], 0, state)


def shim(**more: Any) -> Any:
    """One that has started its container; nobody hears anything of it."""
    told = dict.fromkeys(("on_exit", "on_oom", "on_detach", "on_gone"), lambda callback: None)
    return SimpleNamespace(started=True, **told, **more)


def life_of(every: Any, remove: Callable[[Container], Coroutine[Any, Any, None]], **others: Any) -> Life:
    """``every`` is all that it asks for anything, but for ``others``."""
    parts = dict.fromkeys(("registry", "launcher", "execs", "networks", "spawner", "events"), every)
    return Life(**{**parts, **others}, remove=remove)
