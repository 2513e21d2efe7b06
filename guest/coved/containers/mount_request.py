"""One entry of ``HostConfig.Mounts`` (Engine API, "Mount"): its rules are those of dockerd's volume/mounts, and so are the words."""

from __future__ import annotations

import os
import posixpath
import secrets
from typing import Any

from coved.containers.config_schema import Json
from coved.containers.mountpoints import MountPoint, is_path
from coved.errors import EngineError, InvalidParameter

_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


def parse(raw: Json, *, must_exist: bool = True, drives: bool = False) -> MountPoint:
    """Args:
        must_exist: of a bind's source, unless it may be made.
        drives: a bind's source may be a path as Windows writes it.

    Raises InvalidParameter.
    """
    folded = {key.lower(): value for key, value in raw.items()}
    kind = _typed(folded, "Type", str)
    try:
        return _parse(folded, kind, must_exist, drives)
    except _Wrong as error:
        raise InvalidParameter(f'invalid mount config for type "{kind}": {error}') from None


class _Wrong(Exception):
    """What is wrong, without what it is wrong with."""


def _parse(raw: Json, kind: str, must_exist: bool, drives: bool) -> MountPoint:
    target, source = _typed(raw, "Target", str), _typed(raw, "Source", str)
    writable = not _typed(raw, "ReadOnly", bool)
    if not target:
        raise _Wrong("field Target must not be empty")
    destination = posixpath.normpath("/" + target.lstrip("/"))
    if destination == "/" and target.startswith("/"):
        raise _Wrong("invalid specification: destination can't be '/'")
    if not target.startswith("/"):
        raise _Wrong(f"invalid mount path: '{target}' mount path must be absolute")
    if kind == "bind":
        return _bind(raw, destination, source, writable, must_exist, drives)
    if kind == "volume":
        return _volume(raw, destination, source, writable)
    if kind == "tmpfs":
        return _tmpfs(raw, destination, source, writable)
    if kind == "image":
        return _image(raw, destination, source)
    raise _Wrong("mount type unknown")


def _bind(raw: Json, destination: str, source: str, writable: bool, must_exist: bool, drives: bool) -> MountPoint:
    if not source:
        raise _Wrong("field Source must not be empty")
    options = _typed(raw, "BindOptions", dict)
    propagation = _typed(options, "Propagation", str)
    if propagation and propagation not in _PROPAGATIONS:
        raise _Wrong(f"invalid propagation mode: {propagation}")
    _without(raw, "VolumeOptions", "ImageOptions")
    if not is_path(source, drives=drives):
        raise _Wrong(f"invalid mount path: '{source}' mount path must be absolute")
    create = _typed(options, "CreateMountpoint", bool)
    path = posixpath.normpath("/" + source.lstrip("/")) if source.startswith("/") and not drives else source
    if must_exist and not create and not os.path.lexists(path):
        raise _Wrong(f"bind source path does not exist: {path}")
    forced = _typed(options, "ReadOnlyForceRecursive", bool)
    plain = _typed(options, "ReadOnlyNonRecursive", bool)
    if forced and plain:
        raise _Wrong("ReadOnlyForceRecursive and ReadOnlyNonRecursive must not be both set")
    return MountPoint(
        "bind", destination, path, writable, propagation or "rprivate",
        create_source=create, recursive=not _typed(options, "NonRecursive", bool), read_only_below=not plain,
    )  # fmt: skip


def _volume(raw: Json, destination: str, source: str, writable: bool) -> MountPoint:
    _without(raw, "BindOptions", "ImageOptions")
    options = _typed(raw, "VolumeOptions", dict)
    subpath = _typed(options, "Subpath", str)
    if subpath and not source:
        raise _Wrong("must not set Subpath when using anonymous volumes")
    if subpath and not _is_local(subpath):
        raise _Wrong("subpath must be a relative path within the volume")
    if not writable and not source:
        raise _Wrong("must not set ReadOnly mode when using anonymous volumes")
    driver = _typed(options, "DriverConfig", dict)
    # dockerd makes a name here too, so that a prune of anonymous volumes leaves this one alone; it goes with its container.
    return MountPoint(
        "volume", destination, source or secrets.token_hex(32), writable, anonymous=not source,
        copy=not _typed(options, "NoCopy", bool), mode="z", subpath=subpath, driver=_typed(driver, "Name", str),
        driver_options=_texts(driver, "Options"), labels=_texts(options, "Labels"),
    )  # fmt: skip


def _tmpfs(raw: Json, destination: str, source: str, writable: bool) -> MountPoint:
    _without(raw, "BindOptions", "VolumeOptions", "ImageOptions")
    if source:
        raise _Wrong("field Source must not be specified")
    options = _typed(raw, "TmpfsOptions", dict)
    words = [] if writable else ["ro"]
    if size := _typed(options, "SizeBytes", int):
        words.append(f"size={size}")
    if mode := _typed(options, "Mode", int):
        if not 0 <= mode <= 0o7777:
            raise _Wrong(f"invalid mode: {mode}")
        words.append(f"mode={mode:o}")
    for pair in _typed(options, "Options", list):  # API 1.46
        if not isinstance(pair, list) or not 1 <= len(pair) <= 2 or not all(isinstance(one, str) for one in pair):
            raise _Wrong("invalid option array length")
        if any("," in one for one in pair):
            raise _Wrong(f"invalid option: {pair}")
        words.append("=".join(pair))
    text = ",".join(words)
    if options.get("options"):
        from coved.containers import tmpfs

        try:
            tmpfs.options(text)
        except EngineError as error:
            raise _Wrong(str(error)) from None
    return MountPoint("tmpfs", destination, writable=writable, options=text)


def _image(raw: Json, destination: str, source: str) -> MountPoint:
    """API 1.48. It is read-only, whatever was asked for."""
    _without(raw, "BindOptions", "VolumeOptions")
    if not source:
        raise _Wrong("field Source must not be empty")
    subpath = _typed(_typed(raw, "ImageOptions", dict), "Subpath", str)
    if subpath and not _is_local(subpath):
        raise _Wrong("subpath must be a relative path within the image")
    return MountPoint("image", destination, source, writable=False, subpath=subpath)


def _without(raw: Json, *names: str) -> None:
    for name in names:
        if raw.get(name.lower()) is not None:
            raise _Wrong(f"field {name} must not be specified")


def _is_local(path: str) -> bool:
    """Go's filepath.IsLocal: relative, and not leading out of where it starts."""
    depth = 0
    if path.startswith("/") or "\0" in path:
        return False
    for part in path.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return False
    return True


def _typed(raw: Json, name: str, kind: type[Any]) -> Any:
    """A field, whatever the case of its name, as Go's decoder takes it; the type's empty value when it is not there."""
    value = raw.get(name.lower(), raw.get(name))
    if value is None:
        return kind()
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InvalidParameter(f"invalid JSON: HostConfig.Mounts.{name} has the wrong type")
    if kind is str and "\0" in value:
        raise InvalidParameter(f"invalid JSON: HostConfig.Mounts.{name} must be a string without NUL bytes")
    return {key.lower(): one for key, one in value.items()} if kind is dict else value


def _texts(raw: Json, name: str) -> dict[str, str]:
    value = raw.get(name.lower())
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise InvalidParameter(f"invalid JSON: HostConfig.Mounts.{name} must be an object of strings")
    return dict(value)
