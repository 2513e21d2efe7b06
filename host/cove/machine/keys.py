"""What a machine's SSH needs: our key and the guest's, made once; and the seed that tells the guest."""

from __future__ import annotations

import json
from typing import Any

from cove.machine.files import write_whole
from cove.machine.paths import MachinePaths


def ensure(paths: MachinePaths) -> None:
    """Make the keys that are missing, and the host key in the form of known_hosts."""
    from cove.transport.ssh import make_key  # paramiko and cryptography: heavy

    if not paths.ssh_key.exists():
        private, public = make_key()
        write_whole(paths.ssh_key.with_suffix(".pub"), f"{public} cove\n".encode())
        write_whole(paths.ssh_key, private.encode())
    if not paths.host_key.exists() or not paths.known_hosts.exists():
        private, public = make_key()
        write_whole(paths.known_hosts, f"cove-{paths.name} {public}\n".encode())
        write_whole(paths.host_key, private.encode())


def write_seed(paths: MachinePaths, boot_id: str, registries: dict[str, Any] | None = None) -> None:
    """What the guest reads at boot (docs/architecture.md, section 1). ``registries`` is of `cove.machine.registries`."""
    seed = {
        "version": 1,
        "boot_id": boot_id,
        "machine": paths.name,
        "hostname": f"cove-{paths.name}",
        "authorized_key": paths.ssh_key.with_suffix(".pub").read_text("ascii").strip(),
        "host_key": paths.host_key.read_text("ascii"),
        "registries": registries or {},
    }
    write_whole(paths.seed, json.dumps(seed).encode())
