"""Memory that the agent, which lives as long as its machine, needed once."""

from __future__ import annotations

import ctypes
import gc
import sys


def give_back() -> None:
    """To the system. To make an image takes some 200 MB, which glibc would keep for what is never asked for again (malloc_trim(3))."""
    gc.collect()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
