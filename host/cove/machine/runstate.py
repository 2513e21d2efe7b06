"""How a machine's VM was started, kept on disk while it runs: for an agent that comes after, and for `status` without one.

The file goes when the VM ends as it should. One that is there while no VM runs tells of a VM that died.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from cove.machine.files import sweep, write_whole
from cove.machine.paths import MachinePaths


@dataclass(frozen=True, slots=True)
class RunState:
    """One run. `memory` in bytes, `started_at` in seconds since the epoch."""

    boot_id: str
    ssh_port: int
    image: str
    accelerator: str
    accelerator_reason: str
    qemu_version: str
    cpus: int
    memory: int
    started_at: float
    bind_address: str = "127.0.0.1"
    console_begin: int = 0
    """Where its words begin in the console's log, in bytes."""
    boot_seconds: float | None = None
    """How long it took until the engine answered; None until then."""
    start: str = "cold"
    """"cold", "template" (`cove.machine.templates`), or "resumed"."""
    resumed_at: float = 0.0
    """When it has gone on last where it was suspended, in seconds since the epoch; 0 when it never was."""
    kind: str = ""
    """What a saved state of it fits to (`Driver.state_kind`); "" when it cannot be saved."""

    policy: str = ""
    """What the administrator said when it booted (`Policy.fingerprint`)."""

    folders: list[dict[str, Any]] = field(default_factory=list)
    """Of `cove.share.manager`, as the VM was started with them."""
    folder_driver: str = ""
    folder_token: str = ""
    """By which the folders' servers, Cove's own, know the engine."""
    vsock_cid: int = 0
    """`VmSpec.vsock_cid`."""
    streams_key: str = ""
    """By which the agent and the guest know each other on vsock, 32 bytes as hexadecimal digits."""
    shared_memory: bool = False
    """`VmSpec.shared_memory`: a saved state goes on with the same, whichever folders the machine has by then."""

    settings: dict[str, str] = field(default_factory=dict)
    """`cove.machine.settings.of_start`; empty of an older Cove."""

    def shown(self) -> dict[str, Any]:
        """As `status` has it."""
        told = asdict(self) | {"uptime_seconds": max(0.0, time.time() - self.started_at)}
        for name in (
            "resumed_at",
            "kind",
            "policy",
            "folder_token",
            "folders",
            "shared_memory",
            "settings",
            "vsock_cid",
            "streams_key",
        ):
            del told[name]
        return told


def load(paths: MachinePaths) -> RunState | None:
    """The run on disk; None when there is none that can be read."""
    try:
        return parse(json.loads(paths.run_state.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def parse(told: dict[str, Any]) -> RunState:
    """What a newer Cove tells besides is left out. Raises `TypeError`."""
    known = {one.name for one in fields(RunState)}
    if "shared_memory" not in told:  # of an older Cove
        told = told | {"shared_memory": told.get("folder_driver") == "virtiofs" and bool(told.get("folders"))}
    return RunState(**{name: value for name, value in told.items() if name in known})


def image(paths: MachinePaths) -> str:
    """The digest of the VM image of the run on disk, whatever else of it can be read; "" when there is none."""
    try:
        return str(json.loads(paths.run_state.read_text("utf-8"))["image"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def save(paths: MachinePaths, run: RunState) -> None:
    """Raises `OSError`."""
    write_whole(paths.run_state, json.dumps(asdict(run)).encode())


def forget(paths: MachinePaths) -> None:
    """The VM has ended as it should. For the agent alone."""
    with contextlib.suppress(OSError):
        paths.run_state.unlink()
    sweep(paths.run_state)
