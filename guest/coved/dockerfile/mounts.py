"""``RUN --mount`` and ``RUN --device``: comma-separated fields (docs.docker.com/reference/dockerfile, "RUN --mount")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

from coved.dockerfile import numbers
from coved.dockerfile.instructions import Device, DockerfileError, Mount
from coved.dockerfile.suggest import did_you_mean
from coved.dockerfile.text import quote

_KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_KEYS = "type from source target readonly id sharing required size mode uid gid src dst destination ro rw readwrite env".split()


def mount_from(flag: str) -> str:
    """What a mount is from, the one field that no variable may stand in; raises ``DockerfileError``."""
    from_ = ""
    for field in _fields(flag, "mounts"):
        key, equals, value = field.partition("=")
        if equals and key.lower() == "from":
            if "$" in value[:-1]:
                raise DockerfileError("'from' doesn't support variable expansion, define alias stage instead")
            from_ = value
    return from_


def mount(flag: str, expand: Callable[[str], str]) -> Mount:
    """The mount that a flag describes, its values expanded; raises ``DockerfileError``."""
    given = _Given(Mount(from_=""))
    for field in _fields(flag, "mounts"):
        key, equals, value = field.partition("=")
        given.take(field, key.lower(), expand(value) if equals else None)
    return given.checked()


@dataclass
class _Given:
    """A mount while its fields are read, in their order: some mean something only after the type."""

    mount: Mount
    sharing: bool = False

    def _set(self, **fields: object) -> None:
        self.mount = replace(self.mount, **fields)  # type: ignore[arg-type]

    def _unexpected(self, key: str) -> NoReturn:
        raise DockerfileError(f"unexpected key '{key}' for mount type '{self.mount.kind}'")

    def take(self, field: str, key: str, value: str | None) -> None:
        """``value`` is None for a key alone."""
        match key:
            case "readonly" | "ro":
                self._set(read_only=value is None or _truth(key, value))
            case "readwrite" | "rw":
                self._set(read_only=not (value is None or _truth(key, value)))
            case "required":
                if self.mount.kind not in ("secret", "ssh"):
                    self._unexpected(key)
                self._set(required=value is None or _truth(key, value))
            case _ if value is None:
                raise DockerfileError(f"invalid field '{field}' must be a key=value pair")
            case "type":
                self._set(kind=_one_of(value, _KINDS, "unsupported mount type"))
            case "from":
                self._set(from_=value)
            case "source" | "src":
                self._set(source=value)
            case "target" | "dst" | "destination":
                self._set(target=value)
            case "id" | "env":
                self._set(**{key: value})
            case "size":
                if self.mount.kind != "tmpfs":
                    self._unexpected(key)
                size = numbers.size(value)
                if size is None:
                    raise DockerfileError(f"invalid value for {key}: {value}")
                self._set(size=size)
            case "sharing":
                self.sharing = True
                self._set(sharing=_one_of(value, _SHARING, "unsupported sharing value"))
            case "mode" | "uid" | "gid":
                number = numbers.unsigned(value, 8 if key == "mode" else 10)
                if number is None:
                    raise DockerfileError(f"invalid value {value} for {key}")
                self._set(**{key: number})
            case _:
                raise DockerfileError(did_you_mean(f"unexpected key '{key}' in '{field}'", key, _KEYS))

    def checked(self) -> Mount:
        """Raises ``DockerfileError`` where fields do not go with the type."""
        mount = self.mount
        if mount.kind in ("bind", "tmpfs"):
            for key in ("mode", "uid", "gid"):
                if getattr(mount, key) is not None:
                    raise DockerfileError(f"{key} not allowed for {quote(mount.kind)} type mounts")
        if mount.kind == "secret":
            if mount.from_:
                raise DockerfileError("secret mount should not have a from")
            if self.sharing:
                raise DockerfileError("secret mount should not define sharing")
            if not (mount.source or mount.target or mount.id):
                raise DockerfileError("invalid secret mount. one of source, target required")
            if mount.source and mount.id:
                raise DockerfileError("both source and id can't be set")
        if self.sharing and mount.kind != "cache":
            raise DockerfileError(f"invalid cache sharing set for {mount.kind} mount")
        return mount


def device(flag: str) -> Device:
    """Raises ``DockerfileError``."""
    name, required = "", False
    for field in _fields(flag, "devices"):
        key, equals, value = field.partition("=")
        key = key.lower()
        if key == "required":
            required = not equals or _truth(key, value)
        elif key == "name" and equals:
            if name:
                raise DockerfileError(f"device name already set to {name}")
            name = value
        elif not name:
            name = field
        elif not equals:
            raise DockerfileError(f"invalid field '{field}' must be a key=value pair")
        else:
            raise DockerfileError(did_you_mean(f"unexpected key '{key}' in '{field}'", key, ("name", "required")))
    return Device(name, required)


def _truth(key: str, value: str) -> bool:
    truth = numbers.truth(value)
    if truth is None:
        raise DockerfileError(f"invalid value for {key}: {value}")
    return truth


def _one_of(value: str, known: tuple[str, ...], otherwise: str) -> str:
    if value.lower() not in known:
        raise DockerfileError(did_you_mean(f"{otherwise} {quote(value)}", value, known))
    return value.lower()


def _fields(text: str, what: str) -> list[str]:
    """The fields of one line of CSV (RFC 4180), as Go's encoding/csv reads them; raises ``DockerfileError``."""
    if not text:
        raise DockerfileError(f"failed to parse csv {what}: EOF")
    fields: list[str] = []
    position = 0
    while True:
        if text.startswith('"', position):
            field, position = _quoted_field(text, position + 1, what)
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            field = text[position:end]
            if '"' in field:
                raise _bad_csv(what, position + field.index('"') + 1, 'bare " in non-quoted-field')
            position = end
        fields.append(field)
        if position == len(text):
            return fields
        position += 1


def _quoted_field(text: str, position: int, what: str) -> tuple[str, int]:
    """The field that begins behind a quote, and where it ends."""
    parts: list[str] = []
    while True:
        end = text.find('"', position)
        after = text[end + 1 : end + 2]
        if end < 0 or after not in ("", ",", '"'):
            raise _bad_csv(what, len(text) + 1 if end < 0 else end + 1, 'extraneous or missing " in quoted-field')
        parts.append(text[position:end])
        if after != '"':
            return "".join(parts), end + 1
        parts.append('"')
        position = end + 2


def _bad_csv(what: str, column: int, why: str) -> DockerfileError:
    return DockerfileError(f"failed to parse csv {what}: parse error on line 1, column {column}: {why}")
