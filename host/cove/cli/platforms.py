"""``--platform os[/architecture[/variant]]`` as the Engine API wants it, in JSON; docker's client does the same (containerd's
``platforms`` package)."""

from __future__ import annotations

import json
import platform
import re

from cove.cli.errors import CliError

_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm", "armel": "arm"}
_ARCHITECTURES = frozenset(
    {"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
     "s390x", "wasm"}
)  # fmt: skip
_SYSTEMS = frozenset({"darwin", "freebsd", "linux", "netbsd", "openbsd", "solaris", "wasip1", "windows"})
_SYSTEM = re.compile(r"[A-Za-z0-9_-]+")
_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+")


def to_json(text: str) -> str | None:
    """None for "", which asks for no platform. Raises CliError in docker's words."""
    if not text:
        return None
    system, *rest = text.split("/")
    if not _SYSTEM.fullmatch(system):
        raise CliError(
            f'invalid platform: "{system}" is an invalid OS component of "{text}": OSAndVersion specifier component must '
            'match "^([A-Za-z0-9_-]+)(?:\\\\(([A-Za-z0-9_.-]*)\\\\))?$": invalid argument'
        )
    for part in rest:
        if not _COMPONENT.fullmatch(part):
            raise CliError(
                f'invalid platform: "{part}" is an invalid component of "{text}": platform specifier component must match '
                '"^[A-Za-z0-9_.-]+$": invalid argument'
            )
    system = system.lower()
    if not rest:
        architecture = _ALIASES.get(system, system)
        if architecture in _ARCHITECTURES:
            return _written("linux", architecture, "")
        if system not in _SYSTEMS:
            raise CliError(f'invalid platform: "{text}": unknown operating system or architecture: invalid argument')
        machine = platform.machine().lower()
        return _written(system, _ALIASES.get(machine, machine), "")
    if len(rest) > 2:
        raise CliError(f'invalid platform: "{text}": cannot parse platform specifier: invalid argument')
    architecture = _ALIASES.get(rest[0].lower(), rest[0].lower())
    return _written(system, architecture, rest[1].lower() if len(rest) == 2 else "")


def _written(system: str, architecture: str, variant: str) -> str:
    fields = {"architecture": architecture, "os": system, **({"variant": variant} if variant else {})}
    return json.dumps(fields, separators=(",", ":"))
