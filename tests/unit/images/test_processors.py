"""Which programs run here, told from what a kernel says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from coved.images import platforms, processors
from coved.images.documents import Platform

ARM64 = "7f454c460201010000000000000000000200b700"
S390X = "7f454c4602020100000000000000000000020016"
V2 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
V3 = f"{V2} abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"


def entry(magic: str, *, state: str = "enabled", flags: str = "POCF", offset: int = 0) -> str:
    return f"{state}\ninterpreter /usr/bin/qemu\nflags: {flags}\noffset {offset}\nmagic {magic}\nmask {'ff' * 20}\n"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of a processor of x86-64 that is of level v3, whose kernel runs 32-bit programs."""
    (tmp_path / "register").write_text("")
    (tmp_path / "status").write_text("enabled\n")
    (tmp_path / "i386").write_text("1\n")
    monkeypatch.setattr(processors, "INTERPRETERS", tmp_path)
    monkeypatch.setattr(processors, "_I386", tmp_path / "i386")
    monkeypatch.setattr(processors, "_flags", lambda: set(V3.split()))
    monkeypatch.setattr(platforms, "architecture", lambda: "amd64")
    processors._variants.cache_clear()
    yield tmp_path
    processors._variants.cache_clear()


def listed() -> str:
    return ", ".join(map(str, processors.runnable()))


def test_a_machine_without_interpreters_runs_its_own(registry: Path) -> None:
    assert listed() == "linux/amd64, linux/amd64/v2, linux/amd64/v3, linux/386"
    assert str(processors.own()) == "linux/amd64/v3"


def test_interpreters_that_every_container_has_count(registry: Path) -> None:
    (registry / "qemu-s390x").write_text(entry(S390X))
    (registry / "qemu-arm64").write_text(entry(ARM64))
    (registry / "qemu-arm").write_text(entry("7f454c4601010100000000000000000002002800"))
    assert listed() == (
        "linux/amd64, linux/amd64/v2, linux/amd64/v3, linux/arm64, linux/s390x, linux/386, linux/arm/v7, linux/arm/v6"
    )


@pytest.mark.parametrize(
    "other",
    [
        entry(ARM64, state="disabled"),
        entry(ARM64, flags="OC"),
        entry(ARM64, offset=4),
        entry("4d5a"),
        "enabled\ninterpreter /usr/bin/python\nflags: F\nextension .py\n",
        "",
    ],
)
def test_what_is_registered_otherwise_does_not(registry: Path, other: str) -> None:
    (registry / "other").write_text(other)
    assert "arm64" not in listed()


def test_an_image_for_another_machine_is_told_of(registry: Path) -> None:
    (registry / "qemu-arm64").write_text(entry(ARM64))
    (said,) = processors.warnings(Platform("linux", "arm64"), asked=False)
    assert said == (
        "The requested image's platform (linux/arm64) does not match the detected host platform (linux/amd64/v3) "
        "and no specific platform was requested"
    )
    assert processors.warnings(Platform("linux", "arm64", "v8"), asked=True) == []
    for native in (Platform("linux", "386"), Platform("linux", "amd64", "v2"), Platform("linux", "")):
        assert processors.warnings(native, asked=False) == []


def test_what_nothing_runs_is_told_of_in_any_case(registry: Path) -> None:
    (registry / "qemu-arm64").write_text(entry(ARM64))
    (said,) = processors.warnings(Platform("linux", "arm", "v7"), asked=True)
    assert said.startswith('programs for linux/arm/v7 do not run here and fail with "exec format error"')
    assert "This machine runs linux/amd64, linux/arm64, linux/386: choose one with --platform" in said
    assert len(processors.warnings(Platform("linux", "arm", "v7"), asked=False)) == 2
