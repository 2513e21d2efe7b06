"""The packages for macOS, and a formula for Homebrew with the archives that it takes.

A flat package is an archive in xar's format: a description, the files as gzipped cpio, and the bill of materials.
"""

from __future__ import annotations

import gzip
import stat
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from making import bom
from making.plan import INSTALLERS, Plan, fill, total_size
from making.publisher import PUBLISHER
from making.records import digest
from making.targets import MACOS, MACOS_INTEL, WINDOWS_PYTHON, Target

HERE = INSTALLERS / "macos"
_LIB = "usr/local/lib/cove"
FORMULA_PYTHON = WINDOWS_PYTHON
"""Homebrew's Python for the formula: the one that Windows has, so that two systems try the same."""
KINDS = (MACOS, MACOS_INTEL)


def tree(plan: Plan, own: Path, target: Target) -> Path:
    root = plan.fresh(f"{target.name}-tree")
    plan.lay_site(target, own, root / _LIB / "site")
    launcher = root / "usr/local/bin/cove"
    fill(HERE / "cove.sh", launcher, LIB=f"/{_LIB}/site")
    fill(HERE / "uninstall.sh", root / _LIB / "uninstall.sh", IDENTIFIER=PUBLISHER.macos_identifier)
    for program in (launcher, root / _LIB / "uninstall.sh"):
        program.chmod(0o755)
    plan.settle(root)
    return root


def pkg(plan: Plan, files: Path, target: Target) -> Path:
    work = plan.fresh(f"{target.name}-pkg")
    inner = work / "cove.pkg"
    inner.mkdir()
    paths = [files, *sorted(files.rglob("*"))]
    size = str(total_size(paths) // 1024)
    fill(
        HERE / "Distribution.xml", work / "Distribution", VERSION=plan.version, IDENTIFIER=PUBLISHER.macos_identifier, SIZE=size,
        MACHINE=target.markers["platform_machine"],
    )  # fmt: skip
    fill(
        HERE / "PackageInfo.xml", inner / "PackageInfo", VERSION=plan.version, IDENTIFIER=PUBLISHER.macos_identifier, SIZE=size,
        FILES=str(len(paths)),
    )  # fmt: skip
    (inner / "Bom").write_bytes(bom.made(list(_entries(plan, files, paths))))
    with gzip.GzipFile(inner / "Payload", "wb", mtime=plan.epoch) as payload:
        payload.writelines(_cpio(files, paths))
    plan.settle(work)
    made = plan.out / f"cove-{plan.version}-{target.name}.pkg"
    plan.run(
        ["bsdtar", "--format", "xar", "--uid", "0", "--gid", "0", "-cf", made, "Distribution", "cove.pkg"], cwd=work
    )
    return made


def formula(plan: Plan, trees: Mapping[str, Path]) -> list[Path]:
    """The archives that the formula takes, of the trees by their targets' names, and the formula."""
    arm, intel = (_archive(plan, trees[target.name], target) for target in KINDS)
    made = plan.out / "homebrew/cove.rb"
    fill(
        HERE / "cove.rb", made, HOMEPAGE=PUBLISHER.homepage, LICENCE=PUBLISHER.licence, VERSION=plan.version, PYTHON=FORMULA_PYTHON,
        ARM_URL=plan.url(arm), ARM_SHA256=digest(arm), INTEL_URL=plan.url(intel), INTEL_SHA256=digest(intel),
    )  # fmt: skip
    return [arm, intel, made]


def _archive(plan: Plan, files: Path, target: Target) -> Path:
    made = plan.out / f"cove-{plan.version}-{target.name}.tar.gz"
    with gzip.GzipFile(made, "wb", mtime=plan.epoch) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(files / _LIB / "site", f"cove-{plan.version}", filter=_nobodys)
    return made


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _entries(plan: Plan, root: Path, paths: list[Path]) -> Iterator[bom.Entry]:
    regular = [path for path in paths if path.is_file()]
    # In lots: a command line has room for so many names.
    lots = [regular[begin : begin + 500] for begin in range(0, len(regular), 500)]
    lines = [line for lot in lots for line in plan.run(["cksum", *lot]).splitlines()]
    sums = {path: int(line.split()[0]) for path, line in zip(regular, lines, strict=True)}
    for path in paths:
        info = path.lstat()
        yield bom.Entry(
            _name(path, root), info.st_mode, int(info.st_mtime), info.st_size if path in sums else 0, sums.get(path, 0)
        )


def _cpio(root: Path, paths: list[Path]) -> Iterator[bytes]:
    """cpio's oldest portable format, which macOS takes."""
    for number, path in enumerate(paths, 1):
        info = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        yield _cpio_member(number, info.st_mode, int(info.st_mtime), _name(path, root), content)
    yield _cpio_member(0, 0, 0, "TRAILER!!!", b"")


def _cpio_member(number: int, mode: int, mtime: int, name: str, content: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    head = f"070707{0:06o}{number:06o}{mode:06o}{0:06o}{0:06o}{links:06o}{0:06o}{mtime:011o}{len(encoded):06o}{len(content):011o}"
    return head.encode() + encoded + content


def _name(path: Path, root: Path) -> str:
    return "." if path == root else f"./{path.relative_to(root).as_posix()}"
