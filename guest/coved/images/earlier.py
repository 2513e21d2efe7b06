"""An image as it was some steps of its history ago.

The layers of then are all there. What an image's defaults were then is written down nowhere but in the history itself: the
instructions that were undone are taken back as far as they can be read, and others that set the same are followed again.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

from coved.errors import InvalidParameter
from coved.images.changes import apply

# Docker's builder of before BuildKit puts this in front of what runs nothing.
_NOP = re.compile(r"^/bin/sh -c #\(nop\) +")
_SETTINGS = {
    "CMD": "Cmd",
    "ENTRYPOINT": "Entrypoint",
    "USER": "User",
    "WORKDIR": "WorkingDir",
    "STOPSIGNAL": "StopSignal",
}
_FEW = ("no history", "one step")


def earlier(document: dict[str, Any], steps: int) -> dict[str, Any]:
    """The configuration of an image without the newest ``steps`` of its history; ``rootfs`` has the layers of then.

    Args:
        document: a checked configuration (``documents.config``).

    Raises ``InvalidParameter`` when the history does not go back so far, or does not tell which layers are whose.
    """
    history = document.get("history") or []
    diff_ids = document["rootfs"].get("diff_ids") or []
    if sum(not entry.get("empty_layer") for entry in history) != len(diff_ids):
        raise InvalidParameter("the image's history does not tell which of its layers were there when")
    if not 0 < steps < len(history):
        if len(history) < 2:
            raise InvalidParameter(f"the image has {_FEW[len(history)]}: there is nothing that it could go back to")
        most = len(history) - 1
        raise InvalidParameter(
            f"the image has {most + 1} steps: it can go back by 1{f' to {most}' if most > 1 else ''}"
        )
    kept, undone = history[:-steps], history[-steps:]
    layers = sum(not entry.get("empty_layer") for entry in kept)
    return {
        **document,
        "config": _defaults(document.get("config") or {}, kept, undone),
        "created": kept[-1].get("created") or document.get("created"),
        "history": kept,
        "rootfs": {"type": "layers", "diff_ids": diff_ids[:layers]},
    }


def _defaults(config: dict[str, Any], kept: list[dict[str, Any]], undone: list[dict[str, Any]]) -> dict[str, Any]:
    config = {key: value for key, value in config.items() if value is not None}
    taken_back = {_instruction(entry)[0] for entry in undone}
    for name in taken_back & {*_SETTINGS}:
        config.pop(_SETTINGS[name], None)
    for name, key in (("ENV", "Env"), ("LABEL", "Labels")):
        if name in taken_back:
            set_then = _applied(undone, {name}).get(key) or {}
            if key == "Env":
                gone = {item.partition("=")[0] for item in set_then}
                config[key] = [item for item in config.get(key) or [] if item.partition("=")[0] not in gone]
            else:
                config[key] = {one: value for one, value in (config.get(key) or {}).items() if one not in set_then}
    again = _applied(kept, taken_back & {*_SETTINGS, "ENV", "LABEL"})
    environment = {item.partition("=")[0]: item for item in (*again.pop("Env", ()), *config.get("Env", ()))}
    labels = {**again.pop("Labels", {}), **config.get("Labels", {})}
    config.update(again)
    for key, value in (("Env", [*environment.values()]), ("Labels", labels)):
        if value:
            config[key] = value
        else:
            config.pop(key, None)
    return config


def _applied(entries: list[dict[str, Any]], names: set[str]) -> dict[str, Any]:
    """What the instructions of these names set."""
    config: dict[str, Any] = {}
    for entry in entries:
        name, line = _instruction(entry)
        if name in names:
            with contextlib.suppress(InvalidParameter):  # written as no Dockerfile has it
                apply(config, [line], literal=True)
    return config


def _instruction(entry: dict[str, Any]) -> tuple[str, str]:
    line = _NOP.sub("", entry.get("created_by") or "").removesuffix(" # buildkit").strip()
    return line.partition(" ")[0], line.replace("\n", " ")
