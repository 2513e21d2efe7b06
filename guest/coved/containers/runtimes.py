"""``--runtime``: the engine's own, or another OCI runtime that is installed."""

from __future__ import annotations

from typing import Any

from coved.errors import InvalidParameter

DEFAULT = "runc"
"""What Docker calls its default; here the engine's own goes by that name too, since clients and files ask for it."""
_OWN = ("cove", DEFAULT, "io.containerd.runc.v2")
_OTHERS = ("crun",)


def program(name: str) -> str:
    """The path of the runtime ``name``; "" for the engine's own. Raises InvalidParameter in dockerd's words."""
    if name in ("", *_OWN):
        return ""
    path = _which(name) if name in _OTHERS else None
    if path is None:
        raise InvalidParameter(f"unknown or invalid runtime name: {name}")
    return path


def listed() -> dict[str, Any]:
    """Runtimes as ``GET /info`` lists them: those that there are."""
    found: dict[str, Any] = {name: {"path": "coved"} for name in _OWN}
    found.update({name: {"path": path} for name in _OTHERS if (path := _which(name))})
    return found


def _which(name: str) -> str | None:
    import shutil  # not for every start

    return shutil.which(name)
