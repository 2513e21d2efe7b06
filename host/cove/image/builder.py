"""Builds the VM image: from Debian's signed index to the files a hypervisor boots."""

from __future__ import annotations

from cove.image.store import VmImage
from cove.progress import Report, ignore


def build(progress: Report = ignore) -> VmImage:
    """Return the image of the present recipe and engine, building it when it is not there.

    Raises `CoveError` when no mirror is known, a download fails or does not verify, or the recipe cannot be carried out.
    """
    raise NotImplementedError
