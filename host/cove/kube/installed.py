"""The packages of the extra [kube], which nothing else of Cove needs."""

from __future__ import annotations

from importlib.util import find_spec

from cove.errors import CoveError
from cove.local import pip

_PACKAGES = {"yaml": "PyYAML", "kubernetes": "kubernetes"}
"""Module -> its name on PyPI."""


def check_installed(module: str) -> None:
    """Raises `CoveError` with the command that installs what is missing."""
    if find_spec(module) is not None:
        return
    package = _PACKAGES[module]
    raise CoveError(
        f"this needs the Python package {package}, which Cove's Python does not have",
        pip.hint(package, "kube", alone=False),
    )
