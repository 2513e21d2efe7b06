"""The manifests that winget's repository takes: three files for each version."""

from __future__ import annotations

import time
from pathlib import Path

from making import msi
from making.plan import INSTALLERS, SUMMARY, Plan, fill
from making.publisher import PUBLISHER
from making.records import digest

HERE = INSTALLERS / "windows/winget"
NAME = PUBLISHER.winget_identifier


def make(plan: Plan, exe: Path, package: Path) -> list[Path]:
    """Of the installers as they are handed out: when they are signed, this comes after."""
    values = {
        "version": {},
        "installer": {
            "DATE": time.strftime("%Y-%m-%d", time.gmtime(plan.epoch)),
            "EXE_URL": plan.url(exe), "EXE_SHA256": digest(exe).upper(),
            "MSI_URL": plan.url(package), "MSI_SHA256": digest(package).upper(),
            "PRODUCT_CODE": msi.product_code(plan),
        },
        "locale.en-US": {
            "PUBLISHER": PUBLISHER.name, "HOMEPAGE": PUBLISHER.homepage, "LICENCE": PUBLISHER.licence, "SUMMARY": SUMMARY,
        },
    }  # fmt: skip
    made = []
    for part, filled in values.items():
        # As winget's repository calls them: the one that names the version has no part's name.
        file = plan.out / "winget" / f"{NAME}{'' if part == 'version' else f'.{part}'}.yaml"
        fill(HERE / f"{part}.yaml", file, IDENTIFIER=NAME, VERSION=plan.version, **filled)
        made.append(file)
    return made
