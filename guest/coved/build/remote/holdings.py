"""What the stores of things from elsewhere tell the build cache of what they keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Holding:
    """Something that is kept, in use or not. Size in bytes, times in nanoseconds since the epoch."""

    id: str
    description: str
    """For people, in BuildKit's words."""
    size: int
    created_ns: int
    used_ns: int
    uses: int
    in_use: bool
