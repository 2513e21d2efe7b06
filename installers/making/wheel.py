"""Cove's own wheel: the same bits from the same commit."""

from __future__ import annotations

import sys
from pathlib import Path

from making import dependencies, site
from making.plan import ROOT, Plan

_BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


def make(plan: Plan) -> Path:
    """Hatchling makes it, from the locked wheels: pip's own isolation would take any version of it."""
    builder = plan.fresh("wheel-builder")
    site.lay(plan.wheels(dependencies.BUILD), builder)
    name = plan.run([sys.executable, "-c", _BUILD, plan.out], cwd=ROOT, PYTHONPATH=str(builder)).split()[-1]
    return plan.out / name
