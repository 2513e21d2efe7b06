"""The logs of a machine as they are shown: the console as it is, the agent's JSON as text, or all as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path


def show(path: Path, *, agent: bool, as_json: bool, follow: bool, tail: int | None) -> None:
    """Print a log, the rotated part before it first; `tail` lines from its end, None for all of it."""
    from cove.agent import logs

    form: Callable[[str], str] = logs.readable if agent else str
    if as_json:
        form = _as_object
    if not follow and tail is None and form is str:
        _raw(path.read_bytes())
        return
    earlier = path.with_name(path.name + ".1")
    said = path.read_bytes()
    before = earlier.read_bytes() if agent and earlier.exists() else b""
    lines = (before + said).decode("utf-8", "replace").splitlines()
    if not follow:
        for line in lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]:
            print(form(line))
        return
    _follow(path, form, None if tail is None else max(0, said.count(b"\n") - tail))


def _follow(path: Path, form: Callable[[str], str], skip: int | None) -> None:
    from cove.machine.follow import follow

    pending = b""
    for data in follow(path):
        if form is str and not skip:
            _raw(data)
            continue
        *whole, pending = (pending + data).split(b"\n")
        for line in whole:
            if skip:
                skip -= 1
                continue
            print(form(line.decode("utf-8", "replace").rstrip("\r")), flush=True)
        if form is str and not skip:
            _raw(pending)  # from here on it comes as it is written
            pending = b""


def _as_object(line: str) -> str:
    from cove.agent import logs

    return json.dumps(logs.parsed(line), ensure_ascii=False)


def _raw(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
