"""`python -m making [lock]`."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cove.errors import CoveError

from making import dependencies, linux, macos, msi, publisher, records, signing, wheel, windows, winget
from making.plan import ROOT, Plan
from making.targets import Target

Made = TypeVar("Made")
OUT = ROOT / "build/installers"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="making", description="Make all installers of Cove, or lock what they are made of"
    )
    parser.add_argument("what", nargs="?", choices=("all", "lock"), default="all")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder for what is made (default: {OUT})")
    given = parser.parse_args()
    try:
        if given.what == "lock":
            dependencies.lock()
        else:
            make(Plan.of_checkout(given.out.absolute()))
    except (RuntimeError, CoveError) as error:
        print(f"installers: {error}", file=sys.stderr)
        return 1
    return 0


def make(plan: Plan) -> None:
    _clear(plan)
    own = _step("wheel", lambda: wheel.make(plan))
    parts = records.wheels(plan)
    packages = [made for kind in linux.KINDS for made in _for_linux(plan, own, kind)]
    client, more = _step("files for Windows", lambda: windows.tree(plan, own))
    exe = _step("Windows installer", lambda: windows.exe(plan, client))
    package = _step("MSI", lambda: msi.make(plan, client))
    macs = {target.name: macos.tree(plan, own, target) for target in macos.KINDS}
    pkgs = [_for_macos(plan, macs[target.name], target) for target in macos.KINDS]
    made = [own, *packages, exe, package, *pkgs]
    signing.sign(*made)
    # What names digests comes after what changes them.
    made += [*macos.formula(plan, macs), *winget.make(plan, exe, package)]
    written = records.write(plan, made, [*parts, *more], signing.program() is not None)
    signing.sign(written[-1])
    for path in [*made, *written]:
        print(f"{path.stat().st_size / 1e6:8.1f} MB  {path.relative_to(plan.out)}")
    if plan.dirty:
        print("made of a checkout with changes that are not committed")
    if publisher.PLACEHOLDERS:
        print(
            f"placeholders, which {publisher.FILE.name} says nothing of: {', '.join(publisher.PLACEHOLDERS)} (installers/README.md)"
        )
    if signing.program() is None:
        print(f"unsigned: {signing.VARIABLE} names no program (installers/README.md)")


def _for_linux(plan: Plan, own: Path, kind: linux.Kind) -> list[Path]:
    tree = linux.tree(plan, own, kind)
    return [
        _step(f"Debian package, {kind.deb}", lambda: linux.deb(plan, tree, kind)),
        _step(f"RPM, {kind.rpm}", lambda: linux.rpm(plan, tree, kind)),
    ]


def _for_macos(plan: Plan, tree: Path, target: Target) -> Path:
    return _step(f"package, {target.name}", lambda: macos.pkg(plan, tree, target))


def _clear(plan: Plan) -> None:
    """Nothing of an earlier run is handed out; what was fetched stays."""
    plan.out.mkdir(parents=True, exist_ok=True)
    for path in plan.out.iterdir():
        if path == plan.work:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _step(what: str, make: Callable[[], Made]) -> Made:
    started = time.monotonic()
    made = make()
    print(f"{what}: {time.monotonic() - started:.1f} s", flush=True)
    return made


if __name__ == "__main__":
    sys.exit(main())
