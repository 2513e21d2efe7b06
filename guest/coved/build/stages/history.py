"""How a built image's history names what was done (``docker history``, CREATED BY): BuildKit's words and, for ``POST /build``, those of
the builder before it.

Sources: moby/buildkit, frontend/dockerfile/dockerfile2llb (commitToHistory), and moby/moby, daemon/builder/dockerfile/dispatchers.go.
Where versions of BuildKit differ the words are the newest one's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coved.build.stages import config
from coved.containers.durations import go_duration
from coved.dockerfile import instructions as i
from coved.dockerfile.ports import names
from coved.dockerfile.text import quote

Json = dict[str, Any]

COMMENT = "buildkit.dockerfile.v0"
"""The history's comment on each of BuildKit's entries; the other builder has none."""
_MARK = " # buildkit"


def of_configuration(instruction: i.Instruction, changed: Json, *, classic: bool) -> str | None:
    """Of an instruction that changes no files; ``changed`` is the configuration after it. None: there is no entry."""
    words = _words(instruction, changed, classic)
    return _nop(changed, f" {words}") if classic and words is not None else words


def of_arguments(pairs: Iterable[tuple[str, str | None]], now: Json, *, classic: bool) -> str:
    """``pairs``: None is an argument without a value."""
    words = f"ARG {' '.join(name if value is None else f'{name}={value}' for name, value in pairs)}"
    return _nop(now, f" {words}") if classic else words


def of_directory(path: str, changed: Json, *, classic: bool) -> str:
    """WORKDIR"""
    return _nop(changed, f"WORKDIR {path}") if classic else f"WORKDIR {path}"


def of_command(words: Sequence[str], args: Mapping[str, str], environment: Mapping[str, str], *, classic: bool) -> str:
    """RUN: with the number and the values of the build arguments ``args``, for which ENV's ``environment`` may stand."""
    if classic:
        values = sorted(f"{name}={value}" for name, value in args.items() if name not in environment)
    else:
        values = [f"{name}={environment.get(name, value)}" for name, value in args.items()]
    text = " ".join([*([f"|{len(values)}", *values] if values else []), *words])
    return text if classic else f"RUN {text}{_MARK}"


def of_copy(instruction: i.Copy) -> str:
    """COPY and ADD, by BuildKit."""
    words = [instruction.keyword, *(["--parents"] if instruction.parents else [])]
    for name in ("chown", "chmod"):
        if value := getattr(instruction, name):
            words.append(f"--{name}={value}")
    words += [*instruction.sources, *(f"<<{one.name}" for one in instruction.documents), instruction.destination]
    return f"{' '.join(words)}{_MARK}"


def of_classic_copy(instruction: i.Copy, now: Json, content: str) -> str:
    """``content`` is such as ``file:`` and a digest."""
    chown = f"--chown={instruction.chown} " if instruction.chown else ""
    return _nop(now, f"{instruction.keyword} {chown}{content} in {instruction.destination} ")


def _nop(now: Json, words: str) -> str:
    return " ".join([*config.shell(now), f"#(nop) {words}"])


def _words(instruction: i.Instruction, changed: Json, classic: bool) -> str | None:
    match instruction:
        case i.Env() | i.Label():
            return " ".join([instruction.keyword, *(f"{name}={value}" for name, value in instruction.pairs)])
        case i.Maintainer():
            return f"MAINTAINER {instruction.name}"
        case i.Cmd() | i.Entrypoint():
            return f"{instruction.keyword} {_quoted(config.words(instruction.command, changed))}"
        case i.Shell():
            return f"SHELL {_listed(instruction.words)}"
        case i.User():
            return f"USER {instruction.user}"
        case i.Expose():
            return f"EXPOSE {' '.join(instruction.ports) if classic else _listed(names(instruction.ports))}"
        case i.Volume():
            return f"VOLUME {_listed(instruction.paths)}"
        case i.Stopsignal():
            return f"STOPSIGNAL {instruction.signal}"
        case i.Healthcheck():
            return f"HEALTHCHECK {'&' if classic else ''}{_health(instruction)}"
        case i.Onbuild():
            return f"ONBUILD {instruction.trigger}" if classic else None
    return instruction.source


def _quoted(words: Sequence[str]) -> str:
    """Go's ``%q``."""
    return f"[{' '.join(map(quote, words))}]"


def _listed(words: Sequence[str]) -> str:
    """Go's ``%v``."""
    return f"[{' '.join(words)}]"


def _health(check: i.Healthcheck) -> str:
    """Go's ``%+v``."""
    times = {
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
    }
    shown = " ".join(f"{name}:{go_duration(value)}" for name, value in times.items())
    return f"{{Test:{_listed(check.test)} {shown} Retries:{check.retries}}}"
