"""HostConfig.LogConfig: Docker's log drivers and their options, checked in dockerd's words, and what a start makes of them.

dockerd looks at most values only at a container's start; here a create is refused already, with the same text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from coved.containers.config_schema import Json
from coved.containers.logs import attributes as log_attributes
from coved.containers.logs.attributes import Subject
from coved.errors import InvalidParameter
from coved.runtime.spec import LogTarget

DEFAULT = "json-file"
READABLE = ("json-file", "local")
"""What ``/info`` lists. ``none`` is no driver but the lack of one, and Docker does not list it."""

_COMMON = frozenset({"mode", "max-buffer-size", "cache-disabled", "cache-max-file", "cache-max-size", "cache-compress"})
_FILES = frozenset({"max-size", "max-file", "compress"})
_OPTIONS = {"json-file": _FILES | log_attributes.OPTIONS, "local": _FILES}
_UNKNOWN = {
    "json-file": "unknown log opt '{}' for json-file log driver",
    "local": "unknown log opt '{}' for log driver local",
}
_NOT_STARTED = "failed to create task for container: failed to initialize logging driver: {}"
_T = TypeVar("_T")
_LARGEST = (1 << 63) - 1
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_TRUE, _FALSE = frozenset("1 t T TRUE true True".split()), frozenset("0 f F FALSE false False".split())


@dataclass(frozen=True)
class _Rotation:
    """``max_size`` in bytes, None for no limit."""

    max_size: int | None
    max_files: int
    compress: bool


def normalise(raw: Mapping[str, object]) -> Json:
    """``{"Type", "Config"}`` of a create request, with the default driver filled in. Raises InvalidParameter."""
    folded = {key.lower(): value for key, value in raw.items()}
    name, options = folded.get("type") or DEFAULT, folded.get("config") or {}
    where = "Go struct field LogConfig.HostConfig.LogConfig"
    if not isinstance(name, str):
        raise InvalidParameter(f"invalid JSON: json: cannot unmarshal {_kind(name)} into {where}.Type of type string")
    if not isinstance(options, Mapping):
        kind = _kind(options)
        raise InvalidParameter(
            f"invalid JSON: json: cannot unmarshal {kind} into {where}.Config of type map[string]string"
        )
    for value in options.values():
        if not isinstance(value, str):
            kind = _kind(value)
            raise InvalidParameter(f"invalid JSON: json: cannot unmarshal {kind} into {where}.Config of type string")
    _check_names(name, options)
    if name in READABLE:
        try:
            _rotation(name, options)
            log_attributes.check(options)
        except ValueError as error:
            raise InvalidParameter(_NOT_STARTED.format(error)) from None
    return {"Type": name, "Config": dict(options)}


def path(directory: Path, container_id: str, log: Json) -> Path:
    """Where a container's log is; its folder is made by :func:`target`."""
    return directory / ("local-logs/container.log" if log["Type"] == "local" else f"{container_id}-json.log")


async def target(file: Path, log: Json, subject: Subject) -> LogTarget | None:
    """What the runtime is to write for a container; None when nothing is kept. Raises InvalidParameter."""
    if log["Type"] not in READABLE:
        return None
    options = log["Config"]
    try:
        rotation = _rotation(log["Type"], options)
        attributes = await log_attributes.collect(options, subject)
    except ValueError as error:
        raise InvalidParameter(_NOT_STARTED.format(error)) from None
    file.parent.mkdir(mode=0o700, exist_ok=True)
    return LogTarget(
        file, log["Type"], rotation.max_size, rotation.max_files, rotation.compress,
        _go_json(attributes) if attributes else "",
    )  # fmt: skip


def _check_names(name: str, options: Mapping[str, str]) -> None:
    if name == "none":
        return
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    # Both modes are the same here: a log file is written at once, and what a full disk refuses is dropped, not waited for.
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        try:
            size(options["max-buffer-size"], 1024)
        except ValueError as error:
            raise InvalidParameter(f"error parsing option max-buffer-size: {error}") from None
    disabled = options.get("cache-disabled", "")
    if disabled and disabled not in _TRUE | _FALSE:
        raise InvalidParameter(f"invalid value for option cache-disabled: {disabled}")
    if name not in READABLE:
        raise InvalidParameter(f"logger: no log driver named '{name}' is registered")
    for option in sorted(options):
        if option not in _OPTIONS[name] and option not in _COMMON:
            raise InvalidParameter(_UNKNOWN[name].format(option))


def _rotation(name: str, options: Mapping[str, str]) -> _Rotation:
    return _local(options) if name == "local" else _json_file(options)


def _json_file(options: Mapping[str, str]) -> _Rotation:
    max_size, max_files, compress = None, 1, False
    if "max-size" in options:
        max_size = _decimal_size(options["max-size"])
        if max_size <= 0:
            raise ValueError("max-size must be a positive number")
    if "max-file" in options:
        max_files = _integer(options["max-file"])
        if max_files < 1:
            raise ValueError("max-file cannot be less than 1")
    if "compress" in options:
        compress = _boolean(options["compress"])
        if compress and (max_files == 1 or max_size is None):
            raise ValueError("compress cannot be true when max-file is less than 2 or max-size is not set")
    return _Rotation(max_size, max_files, compress)


def _local(options: Mapping[str, str]) -> _Rotation:
    max_size, max_files, compress = 20 << 20, 5, True
    if "max-size" in options:
        max_size = _told("invalid value for max-size: {}: {}", _decimal_size, options["max-size"])
    if "max-file" in options:
        max_files = _told("invalid value for max-file: {}: {}", _integer, options["max-file"])
    if "compress" in options:
        compress = _told("error reading compress log option: {1}", _boolean, options["compress"])
    if max_files < 0:
        raise ValueError("max file count cannot be less than 0")
    if compress and max_files <= 1:
        raise ValueError("compression cannot be enabled when max file count is 1")
    return _Rotation(max_size, max(1, max_files), compress)


def _told(template: str, parse: Callable[[str], _T], text: str) -> _T:
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(template.format(text, error)) from None


def _decimal_size(text: str) -> int:
    return size(text, 1000)


def size(text: str, unit: int) -> int:
    """Bytes of ``10m``, ``1.5 GB`` or ``3kib`` with 1000 or 1024 as ``unit``. Raises ValueError in go-units' words."""
    end = max(text.rfind(one) for one in "0123456789. ")
    if end < 0:
        raise ValueError(f"invalid size: '{text}'")
    number, suffix = text[: end + (text[end] != " ")], text[end + 1 :]
    if not _NUMBER.fullmatch(number):
        raise ValueError(f"strconv.ParseFloat: parsing {quoted(number)}: invalid syntax")
    value = float(number)
    if value < 0:
        raise ValueError(f"invalid size: '{text}'")
    lower = suffix.lower()
    if lower not in ("", "b"):
        power = "kmgtp".find(lower[0]) + 1
        if not power or lower[1:] not in ("", "b", "ib"):
            raise ValueError(f"invalid suffix: '{suffix}'")
        value *= unit**power
    return int(value) if value < _LARGEST else _LARGEST


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(f"strconv.Atoi: parsing {quoted(text)}: invalid syntax")
    if len(text) > 20 or abs(int(text)) > _LARGEST:
        raise ValueError(f"strconv.Atoi: parsing {quoted(text)}: value out of range")
    return int(text)


def _boolean(text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise ValueError(f"strconv.ParseBool: parsing {quoted(text)}: invalid syntax")
    return text in _TRUE


def quoted(text: str) -> str:
    """Go's %q, as far as it differs from JSON in nothing that is likely here."""
    return json.dumps(text, ensure_ascii=False)


def _go_json(values: Mapping[str, str]) -> str:
    """As Go's encoding/json writes a map: sorted, and safe inside HTML."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace").decode()


def _kind(value: object) -> str:
    """JSON's name of a value's type as Go's decoder says it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"
