"""`-v` and `--mount`: short specs with their relative host paths, long ones as the API's Mount."""

from __future__ import annotations

import os
from typing import Any

from cove.cli.flags import parse_bool
from cove.cli.values import csv_fields, size


def _parts(spec: str) -> list[str]:
    """Split at colons, but not after the drive letter of a Windows path."""
    parts: list[str] = []
    current = ""
    for character in spec:
        if character == ":" and not (len(current) == 1 and current.isalpha()):
            parts.append(current)
            current = ""
        else:
            current += character
    return [*parts, current]


def parse_volume(spec: str) -> tuple[str, str]:
    """(bind, anonymous volume), one of them empty. A host path that begins with "." or "~" becomes absolute.
    Raises `ValueError` in docker's words (`ParseVolume` in its `cli/compose/loader/volume.go`).
    """
    if not spec:
        raise ValueError("invalid empty volume spec")
    parts = _parts(spec) if len(spec) > 2 else [spec]
    for index, part in enumerate(parts):
        if not part:
            raise ValueError(f"invalid spec: {spec}: empty section between colons")
        if 1 < index < len(parts) - 1:
            raise ValueError(f"invalid spec: {spec}: too many colons")
    if len(parts) == 1:
        return "", spec
    source, colon, rest = spec.partition(":")
    if source == "~" or source.startswith(("~/", "~\\")):
        return f"{os.path.expanduser(source)}{colon}{rest}", ""  # noqa: PTH111  # Path.expanduser raises without a home
    if source.startswith("."):
        return f"{os.path.abspath(source)}{colon}{rest}", ""  # noqa: PTH100  # lexical, as docker: links stay
    return spec, ""


def parse_mount(text: str) -> dict[str, Any]:
    """One `--mount` value as the API's Mount. Raises `ValueError` in docker's words."""
    mount: dict[str, Any] = {"Type": "volume"}
    bind: dict[str, Any] = {}
    volume: dict[str, Any] = {}
    tmpfs: dict[str, Any] = {}
    image: dict[str, Any] = {}
    recursive = ""
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        if not equals:
            if key not in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src"):
                raise ValueError(f"invalid field '{field}' must be a key=value pair")
            value = "true"
        if key == "type":
            mount["Type"] = value.lower()
        elif key in ("source", "src"):
            mount["Source"] = os.path.abspath(value) if value.startswith(".") else value  # noqa: PTH100
        elif key in ("target", "dst", "destination"):
            mount["Target"] = value
        elif key in ("readonly", "ro"):
            mount["ReadOnly"] = _boolean(key, value)
        elif key == "consistency":
            mount["Consistency"] = value.lower()
        elif key == "bind-propagation":
            bind["Propagation"] = value.lower()
        elif key == "bind-nonrecursive":
            bind["NonRecursive"] = _boolean(key, value)
        elif key == "bind-create-src":
            bind["CreateMountpoint"] = _boolean(key, value)
        elif key == "bind-recursive":
            recursive = value
            if value not in ("enabled", "disabled", "writable", "readonly"):
                raise ValueError(
                    f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")'
                )
        elif key == "volume-nocopy":
            volume["NoCopy"] = _boolean(key, value)
        elif key == "volume-subpath":
            volume["Subpath"] = value
        elif key == "volume-label":
            name, _, setting = value.partition("=")
            volume.setdefault("Labels", {})[name] = setting
        elif key == "volume-driver":
            volume.setdefault("DriverConfig", {})["Name"] = value
        elif key == "volume-opt":
            name, _, setting = value.partition("=")
            volume.setdefault("DriverConfig", {}).setdefault("Options", {})[name] = setting
        elif key == "image-subpath":
            image["Subpath"] = value
        elif key == "tmpfs-size":
            try:
                tmpfs["SizeBytes"] = size(value)
            except ValueError:
                raise ValueError(f"invalid value for {key}: {value}") from None
        elif key == "tmpfs-mode":
            try:
                tmpfs["Mode"] = int(value, 8)
            except ValueError:
                raise ValueError(f"invalid value for {key}: {value}") from None
        else:
            raise ValueError(f"unexpected key '{key}' in '{field}'")
    if not mount["Type"]:
        raise ValueError("type is required")
    if not mount.get("Target"):
        raise ValueError("target is required")
    if recursive == "disabled":
        bind["NonRecursive"] = True
    elif recursive == "writable":
        bind["ReadOnlyNonRecursive"] = True
    elif recursive == "readonly":
        bind["ReadOnlyForceRecursive"] = True
        if not mount.get("ReadOnly"):
            raise ValueError("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction")
        if bind.get("Propagation") != "rprivate":
            raise ValueError(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
            )
    options = (
        ("bind", "Bind", bind),
        ("volume", "Volume", volume),
        ("tmpfs", "Tmpfs", tmpfs),
        ("image", "Image", image),
    )
    for kind, name, settings in options:
        if settings and mount["Type"] != kind:
            raise ValueError(f"cannot mix '{kind}-*' options with mount type '{mount['Type']}'")
        if settings:
            mount[f"{name}Options"] = settings
    return mount


def _boolean(key: str, text: str) -> bool:
    try:
        return parse_bool(text)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {text}") from None
