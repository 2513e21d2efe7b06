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
    told = pip.command(package)
    raise CoveError(
        f"this needs the Python package {package}, which Cove's Python does not have",
        f"install it: {told}   (it is of Cove's extra [kube])"
        if told
        else "it cannot be added to this Cove, a package without pip: install Cove by pip instead, with its extra [kube]",
    )
