"""Where what is made will be downloaded from, for what has to name it."""

from __future__ import annotations

import os
from pathlib import Path

from making.plan import Plan

VARIABLE = "COVE_RELEASE_URL"
"""Names the folder on the web that a release's files are put into."""
NOWHERE = "https://cove.invalid/releases"


def base() -> str:
    return os.environ.get(VARIABLE, NOWHERE).rstrip("/")


def url(plan: Plan, file: Path) -> str:
    return f"{base()}/{plan.version}/{file.name}"
