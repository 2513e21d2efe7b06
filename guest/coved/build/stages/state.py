"""What a stage has come to: its file system, and the configuration of the image that it would be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from coved.build.cache.steps import Step, key
from coved.build.orders import Refs
from coved.build.stages import config as configs
from coved.build.stages.history import COMMENT
from coved.images import Image
from coved.images.documents import Platform
from coved.times import rfc3339

Json = dict[str, Any]

# What a container had that an image was made of; it says nothing of what is built on it.
_OF_A_CONTAINER = {
    "Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image",
}  # fmt: skip


@dataclass(frozen=True)
class State:
    """``key`` stands for the file system (``steps.key``); ``args`` are the build arguments that count from here on."""

    refs: Refs = ()
    key: str = ""
    told: str = ""
    """What stands for the same in the keys of imported steps, when the newest step is one; "" when that is ``key``. Its maker
    may have taken another file system's, so nothing is noted under it."""
    config: Json = field(default_factory=dict)
    history: Sequence[Json] = ()
    author: str = ""
    created: str = ""
    """Of the base image."""
    platform: Platform | None = None
    """The base image's."""
    inherited: int = 0
    """So many entries of the history are the base image's."""
    steps: Sequence[Step] = ()
    """Those that have led here from the base image."""
    args: Mapping[str, str] = field(default_factory=dict)
    comment: str = COMMENT
    """Of entries of the history."""

    @property
    def environment(self) -> dict[str, str]:
        """What variables in instructions stand for: ENV goes before ARG."""
        return {**self.args, **configs.environment(self.config)}

    @property
    def _commented(self) -> dict[str, str]:
        return {"comment": self.comment} if self.comment else {}

    def configured(self, config: Json, created_by: str) -> State:
        entry = {"created_by": created_by, **self._commented, "empty_layer": True}
        return replace(self, config=config, history=[*self.history, entry])

    def stepped(self, step: Step, created_by: str) -> State:
        """After a step that works on files."""
        entry = {
            "created": rfc3339(step.created_ns),
            "created_by": created_by,
            **self._commented,
            "empty_layer": not step.ref,
        }
        refs = (*self.refs, step.ref) if step.ref else self.refs
        itself, told = step.id, ""
        if step.imported:  # what it lies on and its layer's content are all that is certain
            itself, told = key("imported", self.key, step.ref), step.id
        return replace(
            self, refs=refs, key=itself, told=told, history=[*self.history, entry], steps=[*self.steps, step]
        )

    def with_config(self, config: Json) -> State:
        return replace(self, config=config)

    def squashed(self, base: Refs, ref: str) -> State:
        """With all that its own steps have changed in one layer."""
        own = len(self.refs) - len(base)
        history = [*self.history]
        for index in range(len(history) - 1, -1, -1):
            if own and not history[index].get("empty_layer"):
                history[index] = {**history[index], "empty_layer": True}
                own -= 1
        last = {
            "comment": f"merge {self.key[:12]}",
            "created": history[-1].get("created") or "",
            "empty_layer": not ref,
        }
        return replace(self, refs=(*base, ref) if ref else base, history=[*history, last], steps=())

    def lying_on(self, lower: State) -> State:
        """What ``--link`` has added has a key of its own; with ``lower`` under it that is another file system."""
        told = key("on", lower.told or lower.key, self.told or self.key) if lower.told or self.told else ""
        return replace(self, key=key("on", lower.key, self.key), told=told)


def of_nothing() -> State:
    """FROM scratch."""
    return State(key=key("scratch"), config={"Env": [f"PATH={configs.PATH}"], "WorkingDir": "/"})


def of_image(image: Image) -> State:
    document = image.config
    config = {
        name: value for name, value in (document.get("config") or {}).items() if value and name not in _OF_A_CONTAINER
    }
    history = [*(document.get("history") or ())]
    return State(
        refs=tuple(image.diff_ids),
        key=key("image", [*image.diff_ids]),
        config=config,
        history=history,
        inherited=len(history),
        author=str(document.get("author") or ""),
        created=str(document.get("created") or ""),
        platform=image.platform,
    )


def dated(history: Sequence[Json], created: str, *, epoch: str = "", inherited: int = 0) -> tuple[list[Json], str]:
    """The history with the time of each entry, and the image's own: that of its newest layer.

    Where ``epoch`` is given, that is the time of all but what is ``inherited``.

    What changes no files has the time of the layer before it, or of the first one after, as in BuildKit: the same build gives
    the same image. ``created`` is the base image's.
    """
    times = [entry.get("created") or "" for entry in history]
    if epoch:
        times[inherited:] = [epoch] * len(times[inherited:])
    for index, time in enumerate(times):
        if not time:
            before = times[index - 1] if index else ""
            times[index] = before or next((one for one in times[index:] if one), created)
    entries = []
    for entry, time in zip(history, times, strict=True):
        fields = {**entry, **({"created": time} if time else {})}
        if not fields.get("empty_layer"):
            fields.pop("empty_layer", None)
        entries.append(fields)
    return entries, times[-1] if times and times[-1] else created
