"""The command line of the system's ssh into a machine."""

from __future__ import annotations

import shutil

from cove.errors import CoveError
from cove.machine.paths import MachinePaths


def ssh_words(paths: MachinePaths, port: int) -> list[str]:
    """All but the command to run there. Raises `CoveError` when there is no ssh."""
    program = shutil.which("ssh")
    if program is None:
        raise CoveError("there is no ssh program on this computer", "install OpenSSH's client")
    options = {
        "IdentityFile": paths.ssh_key, "IdentitiesOnly": "yes", "UserKnownHostsFile": paths.known_hosts,
        "HostKeyAlias": f"cove-{paths.name}", "StrictHostKeyChecking": "yes", "LogLevel": "ERROR",
    }  # fmt: skip
    call = [program, "-F", "none", "-p", str(port)]
    for key, value in options.items():
        # ssh_config(5): quotes for spaces, and a percent sign begins a token.
        call += ["-o", f'{key}="{str(value).replace("%", "%%")}"']
    return [*call, "root@127.0.0.1"]
