"""The check of the way to another computer that a machine's engine runs on."""

from __future__ import annotations

import time

from cove.agent.client import NoAgent, ask
from cove.errors import CoveError
from cove.machine import remote
from cove.machine.paths import MachinePaths
from cove.support.findings import OK, PROBLEM, Found


def look(paths: MachinePaths) -> Found:
    found = remote.load(paths)
    if found is None:
        return
    try:
        told = ask(paths, "status", 4)
    except NoAgent:
        told = {}
    if told.get("state") == "running":
        yield (
            OK,
            f"{found.address} is connected, and has the key that was pinned ({remote.fingerprint(found.host_key)})",
        )
        return
    if told.get("state") == "unreachable":
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(told["lost_at"]))
        yield (
            PROBLEM,
            f"the connection to {found.address} is lost since {since}: {told['lost_because']}",
            told.get("lost_hint") or f"see whether this works: ssh {found.address}",
        )
        return
    from cove.remote import connection  # paramiko: for who has such a machine

    try:
        connection.connect(found.address, found.host_key).close()
    except CoveError as error:
        yield PROBLEM, error.message, error.hint
    else:
        yield OK, f"{found.address} answers, lets you in, and has the key that was pinned"
