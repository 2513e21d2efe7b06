"""`--platform`: os[/arch[/variant]] as the API takes it, read as containerd's platforms package reads it."""

from __future__ import annotations

import json
import re
import sys

from cove.cli.errors import CliError

_OS = r"^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)\))?$"
_PART = r"^[A-Za-z0-9_.-]+$"
_SYSTEMS = frozenset(
    "aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos".split()
)
_ARCHITECTURES = frozenset(
    "386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 mips64le mips64p32 mips64p32le"
    " ppc riscv riscv64 s390 s390x sparc sparc64 wasm".split()
)
_MOST_PARTS = 3
_ARM64 = {"8": "", "v8": "", "v8.0": "", "9": "v9", "9.0": "v9", "v9.0": "v9"}
_ARM = {"": "v7", "7": "v7", "5": "v5", "6": "v6", "8": "v8"}


def parameter(specifier: str, failure: str = "") -> str | None:
    """The query parameter for a platform; None for none. Raises `CliError`, `failure` before its reason."""
    if not specifier:
        return None
    try:
        return json.dumps(parse(specifier), separators=(",", ":"))
    except ValueError as error:
        raise CliError(f"{failure}: {error}" if failure else str(error)) from None


def parse(specifier: str) -> dict[str, str]:
    """An OCI platform. Raises `ValueError`."""
    if "*" in specifier:
        raise ValueError(f"{_quoted(specifier)}: wildcards not yet supported: invalid argument")
    system, *rest = parts = specifier.split("/", _MOST_PARTS)
    match = re.fullmatch(_OS[1:-1], system)
    if match is None:
        raise ValueError(
            f"{_quoted(system)} is an invalid OS component of {_quoted(specifier)}:"
            f" OSAndVersion specifier component must match {_quoted(_OS)}: invalid argument"
        )
    for part in rest:
        if not re.fullmatch(_PART[1:-1], part):
            raise ValueError(
                f"{_quoted(part)} is an invalid component of {_quoted(specifier)}:"
                f" platform specifier component must match {_quoted(_PART)}: invalid argument"
            )
    name = {"macos": "darwin"}.get(match[1].lower(), match[1].lower())
    version = match[2] or ""
    if len(parts) > _MOST_PARTS:
        raise ValueError(f"{_quoted(specifier)}: cannot parse platform specifier: invalid argument")
    if len(parts) == 1:
        if name in _SYSTEMS:
            return _platform(_own_architecture(), name, version, "")
        architecture, variant = _normal(system, "")
        if architecture not in _ARCHITECTURES:
            raise ValueError(f"{_quoted(specifier)}: unknown operating system or architecture: invalid argument")
        own = {"win32": "windows"}.get(sys.platform, sys.platform)
        return _platform(architecture, own, version, variant, implied=True)
    architecture, variant = _normal(rest[0], rest[1] if len(rest) > 1 else "")
    if len(rest) > 1 and architecture == "arm64" and not variant:
        variant = "v8"
    return _platform(architecture, name, version, variant, implied=len(rest) == 1)


def _platform(architecture: str, system: str, version: str, variant: str, *, implied: bool = False) -> dict[str, str]:
    if implied and architecture == "arm" and variant == "v7":
        variant = ""
    named = {"architecture": architecture, "os": system, "os.version": version, "variant": variant}
    return {name: value for name, value in named.items() if value}


def _normal(architecture: str, variant: str) -> tuple[str, str]:
    """The names that images use for what other tools call otherwise."""
    architecture, variant = architecture.lower(), variant.lower()
    if architecture == "i386":
        return "386", ""
    if architecture in ("x86_64", "x86-64", "amd64"):
        return "amd64", "" if variant == "v1" else variant
    if architecture in ("aarch64", "arm64"):
        return "arm64", _ARM64.get(variant, variant)
    if architecture in ("armhf", "armel"):
        return "arm", "v7" if architecture == "armhf" else "v6"
    return architecture, _ARM.get(variant, variant) if architecture == "arm" else variant


def _own_architecture() -> str:
    import platform

    return _normal(platform.machine(), "")[0]


def _quoted(text: str) -> str:
    from cove.cli.quoting import quoted

    return quoted(text)
