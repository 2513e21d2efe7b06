"""What a machine's SSH needs: our key and the guest's, made once; and the seed that tells the guest."""

from __future__ import annotations

import base64
import json
import secrets
import time
from typing import Any

from coved.outside import Outside

from cove.machine.files import write_whole
from cove.machine.paths import MachinePaths


def ensure(paths: MachinePaths) -> None:
    """Make the keys that are missing, and the host key in the form of known_hosts."""
    if all(path.exists() for path in (paths.ssh_key, paths.host_key, paths.known_hosts)):
        return
    from cove.transport.ssh import make_key  # paramiko and cryptography: a tenth of a second of every start

    if not paths.ssh_key.exists():
        private, public = make_key()
        write_whole(paths.ssh_key.with_suffix(".pub"), f"{public} cove\n".encode())
        write_whole(paths.ssh_key, private.encode())
    if not paths.host_key.exists() or not paths.known_hosts.exists():
        private, public = make_key()
        write_whole(paths.known_hosts, f"cove-{paths.name} {public}\n".encode())
        write_whole(paths.host_key, private.encode())


def seed(
    paths: MachinePaths, boot_id: str, registries: dict[str, Any] | None = None, outside: Outside | None = None,
    streams_key: str = "",
) -> bytes:  # fmt: skip
    """What the guest is told (docs/architecture.md, section 1). ``registries`` and ``outside``
    are of the modules of these names."""
    told = {
        "version": 1,
        "boot_id": boot_id,
        "machine": paths.name,
        "hostname": f"cove-{paths.name}",
        "authorized_key": paths.ssh_key.with_suffix(".pub").read_text("ascii").strip(),
        "host_key": paths.host_key.read_text("ascii"),
        "registries": registries or {},
        "outside": (outside or Outside()).to_json(),
        "streams_key": streams_key,
        "time_ns": time.time_ns(),
        "entropy": base64.b64encode(secrets.token_bytes(64)).decode(),
    }
    return json.dumps(told).encode()
