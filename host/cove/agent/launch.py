"""From any command to a machine whose engine answers.

Light to import, for every docker verb may end here; what is heavy is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cove.progress import Event


def ensure_running(name: str, progress: Callable[[Event], None] | None = None) -> Path:
    """Return the docker socket of machine `name`, whose engine answers when this returns.

    Makes the VM image and the machine when they are missing, starts the agent and the VM when they do not run. Safe to call
    from several processes at once. Raises `CoveError` with the way out.
    """
    raise NotImplementedError
