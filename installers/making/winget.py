"""The manifests that winget's repository takes: three files for each version."""

from __future__ import annotations

import time
from pathlib import Path

from making import msi, release
from making.plan import INSTALLERS, PUBLISHER, SUMMARY, Plan, fill
from making.records import digest

HERE = INSTALLERS / "windows/winget"
NAME = "Cove.Cove"


def make(plan: Plan, exe: Path, package: Path) -> list[Path]:
    """Of the installers as they are handed out: when they are signed, this comes after."""
    values = {
        "": {"VERSION": plan.version},
        ".installer": {
            "VERSION": plan.version, "DATE": time.strftime("%Y-%m-%d", time.gmtime(plan.epoch)),
            "EXE_URL": release.url(plan, exe), "EXE_SHA256": digest(exe).upper(),
            "MSI_URL": release.url(plan, package), "MSI_SHA256": digest(package).upper(),
            "PRODUCT_CODE": msi.product_code(plan),
        },
        ".locale.en-US": {
            "VERSION": plan.version, "PUBLISHER": PUBLISHER, "HOMEPAGE": release.base(), "SUMMARY": SUMMARY
        },
    }  # fmt: skip
    made = []
    for part, filled in values.items():
        file = plan.out / "winget" / f"{NAME}{part}.yaml"
        fill(HERE / file.name, file, **filled)
        made.append(file)
    return made
