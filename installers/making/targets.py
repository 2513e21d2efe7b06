"""The systems that dependencies are vendored for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""Every Python whose compiled modules are laid side by side where the system's own Python runs Cove."""
WINDOWS_PYTHON = "3.13"
"""The Python that the Windows installers bring along."""
_GLIBC = (34, 31, 28, 27, 24, 17, 12, 5)  # Debian 12, the oldest system that there is a package for, has 2.36


@dataclass(frozen=True, slots=True)
class Target:
    """`platforms` are wheel tags, best first; `markers` what PEP 508 says of the system."""

    name: str
    platforms: tuple[str, ...]
    pythons: tuple[str, ...]
    markers: Mapping[str, str]

    def environment(self, python: str) -> dict[str, str]:
        return {**self.markers, "python_version": python, "python_full_version": f"{python}.0", "extra": ""}


def _markers(sys_platform: str, system: str, os_name: str, machine: str) -> dict[str, str]:
    return {
        "sys_platform": sys_platform, "platform_system": system, "os_name": os_name, "platform_machine": machine,
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
    }  # fmt: skip


def _linux(machine: str, *older: str) -> Target:
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC]
    platforms += [f"manylinux{name}_{machine}" for name in ("2014", *older)]
    return Target(f"linux-{machine}", tuple(platforms), PYTHONS, _markers("linux", "Linux", "posix", machine))


def _macos(machine: str) -> Target:
    platforms = (f"macosx_13_0_{machine}",)
    return Target(f"macos-{machine}", platforms, PYTHONS, _markers("darwin", "Darwin", "posix", machine))


LINUX, LINUX_ARM64 = _linux("x86_64", "2010", "1"), _linux("aarch64")
WINDOWS = Target("windows-amd64", ("win_amd64",), (WINDOWS_PYTHON,), _markers("win32", "Windows", "nt", "AMD64"))
MACOS, MACOS_INTEL = _macos("arm64"), _macos("x86_64")
ALL = (LINUX, LINUX_ARM64, WINDOWS, MACOS, MACOS_INTEL)
