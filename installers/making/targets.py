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


LINUX = Target(
    "linux-x86_64",
    (*(f"manylinux_2_{minor}_x86_64" for minor in _GLIBC), "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"),
    PYTHONS,
    _markers("linux", "Linux", "posix", "x86_64"),
)  # fmt: skip
WINDOWS = Target("windows-amd64", ("win_amd64",), (WINDOWS_PYTHON,), _markers("win32", "Windows", "nt", "AMD64"))
# No Intel Macs: cryptography has made no wheels for them since 48.
MACOS = Target("macos-arm64", ("macosx_13_0_arm64",), PYTHONS, _markers("darwin", "Darwin", "posix", "arm64"))
ALL = (LINUX, WINDOWS, MACOS)
