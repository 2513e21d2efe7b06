"""Whose programs run on this machine: those of its own processor, and of those that its kernel has interpreters for."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from coved.images import platforms
from coved.images.documents import Platform

INTERPRETERS = Path("/proc/sys/fs/binfmt_misc")
"""What is registered, a file each (Documentation/admin-guide/binfmt-misc.rst)."""
_I386 = Path("/proc/sys/abi/vsyscall32")
"""There when a kernel of x86-64 runs 32-bit programs as well (arch/x86/entry/vdso/vdso32-setup.c)."""

# By class, byte order and machine of an ELF header (elf.h).
_MACHINES = {
    (1, 1, 3): "386", (1, 1, 40): "arm", (2, 1, 62): "amd64", (2, 1, 183): "arm64", (2, 1, 243): "riscv64",
    (2, 2, 22): "s390x", (2, 2, 21): "ppc64", (2, 1, 21): "ppc64le", (2, 1, 8): "mips64le", (2, 2, 8): "mips64",
    (2, 1, 258): "loong64",
}  # fmt: skip
_ORDER = ("amd64", "arm64", "riscv64", "ppc64", "ppc64le", "s390x", "386", "mips64le", "mips64", "loong64", "arm")
"""Of BuildKit's lists (util/archutil)."""
_ARM = ("v7", "v6")

# What each level of x86-64 has beyond the one before it (x86-64 psABI, "Micro-Architecture Levels"), in /proc/cpuinfo's words.
_LEVELS = (
    ("v2", {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}),
    ("v3", {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"}),
    ("v4", {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}),
)


def own() -> Platform:
    """This machine's, with the newest variant that its processor is."""
    architecture = platforms.architecture()
    variant = _variants()[-1:] if architecture == "amd64" else ["v8"] if architecture == "arm64" else []
    return Platform("linux", architecture, *variant)


def runnable() -> list[Platform]:
    """All of them, this machine's own first, as BuildKit lists them. It can be others each time: who may, registers more."""
    architecture = platforms.architecture()
    found = [Platform("linux", architecture), *(Platform("linux", architecture, each) for each in _variants())]
    foreign = {*_interpreted()}
    if architecture == "amd64" and _I386.exists():
        foreign.add("386")
    for each in _ORDER:
        if each in foreign and each != architecture:
            found += [Platform("linux", each, variant) for variant in (_ARM if each == "arm" else ("",))]
    return found


def runs(platform: Platform) -> bool:
    """Whether programs for it run here; nothing is known against what names no architecture."""
    if not platform.architecture or platforms.rank(platform, own()) is not None:
        return True
    return platform.architecture in {each.architecture for each in runnable()}


def warnings(platform: Platform, *, asked: bool) -> list[str]:
    """What is to be said of a container that is made from an image for ``platform``; ``asked``: somebody wants just that."""
    said = []
    if not asked and platform.architecture and platforms.rank(platform, own()) is None:
        said.append(mismatch(platform))
    if not runs(platform):
        said.append(cannot_run(platform))
    return said


def mismatch(platform: Platform) -> str:
    """In dockerd's words."""
    return (
        f"The requested image's platform ({platform}) does not match the detected host platform ({own()}) "
        "and no specific platform was requested"
    )


def cannot_run(platform: Platform) -> str:
    """Why programs for it end as they do, and what can be done."""
    native = platforms.architecture()
    known = ", ".join(str(each) for each in runnable() if each.architecture != native or not each.variant)
    return (
        f'programs for {platform} do not run here and fail with "exec format error": there is no emulator for them. '
        f"This machine runs {known}: choose one with --platform, or register an emulator for {platform.architecture} "
        "(binfmt_misc)"
    )


@functools.cache
def _variants() -> list[str]:
    """Beyond the first one, of a processor of x86-64."""
    found: list[str] = []
    if platforms.architecture() == "amd64":
        flags = _flags()
        for variant, needed in _LEVELS:
            if not needed <= flags:
                break
            found.append(variant)
    return found


def _flags() -> set[str]:
    with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    return set()


def _interpreted() -> Iterator[str]:
    """Architectures with an interpreter that any container has: one that is opened already (flag F)."""
    try:
        entries = [path for path in INTERPRETERS.iterdir() if path.name not in ("register", "status")]
    except OSError:
        return  # no such kernel, or nobody has mounted it
    for path in entries:
        try:
            lines = path.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue  # gone meanwhile
        fields = dict(line.partition(" ")[::2] for line in lines)
        magic = fields.get("magic", "")
        if lines[:1] != ["enabled"] or "F" not in fields.get("flags:", "") or fields.get("offset") != "0":
            continue
        if not magic.startswith("7f454c46") or len(magic) < 40:
            continue
        header = bytes.fromhex(magic[:40])
        machine = int.from_bytes(header[18:20], "big" if header[5] == 2 else "little")
        if architecture := _MACHINES.get((header[4], header[5], machine)):
            yield architecture
