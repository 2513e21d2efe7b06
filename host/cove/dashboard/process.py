"""The dashboard's process. Started by `cove.dashboard.launch`, which reads a line from it once it listens."""

from __future__ import annotations

import logging
import os

from cove.agent import logs
from cove.dashboard.docker_proxy import Logins
from cove.dashboard.places import Places
from cove.errors import MachineBusy
from cove.machine.files import MAX_LOG, rotate
from cove.machine.locks import FileLock
from cove.support import companion

LOOKED_AT_S = 0.5


def run(name: str, logins: Logins) -> int:
    """Serve the dashboard of a machine until its end, unless another process does; returns the exit status."""
    places = Places(name)
    places.make()
    rotate(places.log, MAX_LOG)
    lock = FileLock(places.lock)
    try:
        lock.acquire(LOOKED_AT_S, "the dashboard")  # whoever asks whether it is free holds it for a moment
    except MachineBusy:
        return 0  # another one serves already: whoever started this one will find it
    logs.begin(places.log)
    try:
        from cove.dashboard.service import main as serve

        serve(places, companion.ready, logins)
    except Exception:
        logging.exception("the dashboard failed")
        return 1
    logging.shutdown()
    # Questions that were asked on behalf of a page, and that nobody waits for any more, may be in threads.
    os._exit(0)
