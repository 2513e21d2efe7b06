"""``docker import --change``: Dockerfile instructions that set an image's defaults."""

import json
import posixpath
import re
import shlex
from typing import Any

from coved.errors import InvalidParameter

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_SHELL = ["/bin/sh", "-c"]


def apply(config: dict[str, Any], changes: list[str]) -> None:
    """Applies instructions to a container configuration, in order; raises ``InvalidParameter`` for one it cannot be."""
    for change in changes:
        for line in change.splitlines():
            if line.strip():
                _apply_one(config, line.strip())


def _apply_one(config: dict[str, Any], line: str) -> None:
    instruction, _, rest = line.partition(" ")
    rest = rest.strip()
    name = instruction.upper()
    handler = _INSTRUCTIONS.get(name)
    if handler is None:
        raise InvalidParameter(f"{name} is not a valid change command")
    if not rest:
        raise InvalidParameter(f"{name} requires at least one argument")
    handler(config, rest)


def _command(text: str) -> list[str]:
    """The exec form when it is a JSON list of strings, else the shell form."""
    if text.startswith("["):
        try:
            words = json.loads(text)
        except ValueError:
            words = None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return words
    return [*_SHELL, text]


def _words(text: str, instruction: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidParameter(f"{instruction} {text}: {error}") from None


def _pairs(text: str, instruction: str) -> list[tuple[str, str]]:
    """``a=b "c=d e"``, or the old form ``a the rest``."""
    words = _words(text, instruction)
    if "=" not in words[0]:
        key, space, value = text.partition(" ")
        if not space:
            raise InvalidParameter(f"{instruction} must have two arguments")
        return [(key, value.strip())]
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise InvalidParameter(f"Syntax error - can't find = in {word!r}. Must be of the form: name=value")
        pairs.append((key, value))
    return pairs


def _cmd(config: dict[str, Any], text: str) -> None:
    config["Cmd"] = _command(text)


def _entrypoint(config: dict[str, Any], text: str) -> None:
    config["Entrypoint"] = _command(text)


def _env(config: dict[str, Any], text: str) -> None:
    for key, value in _pairs(text, "ENV"):
        kept = [item for item in config.get("Env") or [] if item.partition("=")[0] != key]
        config["Env"] = [*kept, f"{key}={value}"]


def _label(config: dict[str, Any], text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(text, "LABEL"))}


def _expose(config: dict[str, Any], text: str) -> None:
    ports: dict[str, dict[str, Any]] = config.setdefault("ExposedPorts", {})
    for word in text.split():
        match = _PORT.fullmatch(word)
        if not match:
            raise InvalidParameter(f"invalid containerPort: {word}")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 < first <= last <= 65535:
            raise InvalidParameter(f"invalid containerPort: {word}")
        for port in range(first, last + 1):
            ports[f"{port}/{(match[3] or 'tcp').lower()}"] = {}


def _volume(config: dict[str, Any], text: str) -> None:
    words = _command(text) if text.startswith("[") else _words(text, "VOLUME")
    config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in words}}


def _workdir(config: dict[str, Any], text: str) -> None:
    config["WorkingDir"] = posixpath.normpath(posixpath.join(config.get("WorkingDir") or "/", text))


def _user(config: dict[str, Any], text: str) -> None:
    config["User"] = text


def _stopsignal(config: dict[str, Any], text: str) -> None:
    config["StopSignal"] = text


def _onbuild(config: dict[str, Any], text: str) -> None:
    config["OnBuild"] = [*(config.get("OnBuild") or []), text]


_INSTRUCTIONS = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
