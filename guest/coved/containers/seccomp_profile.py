"""From a seccomp profile in the format of containers-common to the ``linux.seccomp`` of the OCI runtime spec.

The format (also Docker's) is OCI's with conditions: each group of system calls says for which capabilities, architectures and
kernel versions it counts (``includes``, ``excludes``), and ``archMap`` says which architectures go with the machine's own.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from coved.errors import EngineError, InvalidParameter
from coved.runtime.errors import CREATE_REFUSED

DEFAULT_PATH = Path("/usr/share/containers/seccomp.json")
MAX_BYTES = 1 << 20
_ACTIONS = frozenset("SCMP_ACT_" + name for name in "KILL KILL_THREAD KILL_PROCESS TRAP ERRNO TRACE ALLOW LOG".split())
_OPERATORS = frozenset("SCMP_CMP_" + name for name in "NE LT LE EQ GE GT MASKED_EQ".split())
_EITHER = "both '{0}' and '{1}' are specified in the seccomp profile, use either '{0}' or '{1}'"

_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
}


@functools.lru_cache(maxsize=4)
def load(path: Path) -> dict[str, Any]:
    """The profile in ``path``, read once. Raises EngineError, with the way out, when it is missing or broken."""
    try:
        return parse(path.read_text("utf-8"))
    except FileNotFoundError:
        raise EngineError(
            f"seccomp profile {path} is missing: install the package golang-github-containers-common, "
            "or run the container with --security-opt seccomp=unconfined"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"seccomp profile {path} cannot be read: {error}") from error


def parse(text: str) -> dict[str, Any]:
    """A profile given as JSON text. Raises InvalidParameter when it is none."""
    if len(text) > MAX_BYTES:
        raise InvalidParameter("Decoding seccomp profile failed: it is larger than 1 MiB")
    try:
        profile = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: {error}") from None
    if not isinstance(profile, dict) or not isinstance(profile.setdefault("defaultAction", ""), str):
        raise InvalidParameter("Decoding seccomp profile failed: it is no JSON object with a defaultAction")
    if profile.get("architectures") and profile.get("archMap"):
        raise EngineError(_EITHER.format("architectures", "archMap"))
    for group in profile.get("syscalls") or ():
        if isinstance(group, dict) and group.get("name") and group.get("names"):
            raise EngineError(_EITHER.format("name", "names"))
    return profile


@functools.lru_cache(maxsize=8)
def convert_default(path: Path, capabilities: tuple[str, ...]) -> dict[str, Any]:
    """``convert`` of the profile in ``path``, remembered: nearly all containers ask for the same one."""
    return convert(load(path), capabilities)


def convert(
    profile: dict[str, Any],
    capabilities: Iterable[str],
    *,
    machine: str | None = None,
    kernel: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Decide every condition of ``profile`` for this machine and these capabilities; gives an OCI ``linux.seccomp`` object.

    ``machine`` is as in uname(2); the running system's values stand in for None. Raises InvalidParameter for a malformed profile.
    """
    uname = os.uname()
    debian_name, native = _ARCHITECTURES.get(machine or uname.machine, (machine or uname.machine, ""))
    if kernel is None:
        major, minor = re.findall(r"\d+", uname.release)[:2]
        kernel = int(major), int(minor)
    held = frozenset(capabilities)
    try:
        groups = profile.get("syscalls") or ()
        action = profile["defaultAction"]
        result: dict[str, Any] = {"defaultAction": _known(action, _ACTIONS, "action") if action or groups else ""}
        if profile.get("defaultErrnoRet") is not None:
            result["defaultErrnoRet"] = profile["defaultErrnoRet"]
        result["architectures"] = _architectures(profile, native)
        if profile.get("flags"):
            result["flags"] = profile["flags"]
        result["syscalls"] = [_rule(group) for group in groups if _applies(group, held, debian_name, kernel)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: malformed ({error!r})") from None
    return result


def _architectures(profile: dict[str, Any], native: str) -> list[str]:
    for entry in profile.get("archMap") or ():
        if entry["architecture"] == native:
            return [native, *(entry.get("subArchitectures") or ())]
    return list(profile.get("architectures") or ([native] if native else []))


def _rule(group: dict[str, Any]) -> dict[str, Any]:
    names = group.get("names") or [group["name"]]
    if not all(isinstance(name, str) for name in names):
        raise TypeError("a name of a system call is no string")
    rule: dict[str, Any] = {"names": names, "action": _known(group["action"], _ACTIONS, "action")}
    if group.get("errnoRet") is not None:
        rule["errnoRet"] = int(group["errnoRet"])
    if group.get("args"):
        rule["args"] = [
            {
                "index": int(one["index"]),
                "value": int(one["value"]),
                "valueTwo": int(one.get("valueTwo") or 0),
                "op": _known(one["op"], _OPERATORS, "operator"),
            }
            for one in group["args"]
        ]
    return rule


def _known(word: str, known: frozenset[str], what: str) -> str:
    if word not in known:
        raise EngineError(CREATE_REFUSED.format(f"string {word} is not a valid {what} for seccomp"))
    return word


def _applies(group: dict[str, Any], held: frozenset[str], architecture: str, kernel: tuple[int, int]) -> bool:
    includes, excludes = group.get("includes") or {}, group.get("excludes") or {}
    if includes.get("arches") and architecture not in includes["arches"]:
        return False
    if architecture in (excludes.get("arches") or ()):
        return False
    if not held.issuperset(includes.get("caps") or ()):
        return False
    if held.intersection(excludes.get("caps") or ()):
        return False
    if includes.get("minKernel") and kernel < _version(includes["minKernel"]):
        return False
    return not (excludes.get("minKernel") and kernel >= _version(excludes["minKernel"]))


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)
