"""What an engine does first, done before with nothing.

Under software emulation machine code is translated when it runs for the first time, and again in each VM that is restored from a
template: that is most of an engine's start. While PID 1 mounts the data disk, the other processor can get it done.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from coved.boot.places import RUN
from coved.networks import firewall
from coved.networks.fastpath import FastPath
from coved.networks.manager import TABLE, UPLINK
from coved.networks.rtnetlink import Netlink
from coved.store.database import Database

log = logging.getLogger(__name__)


def hold_rules() -> None:
    """Puts up the packet rules of a machine without networks, before any is begun.

    The kernel patches itself for the first rules, and when the last ones go, which QEMU before 8.1 may get wrong while the other
    processor runs (see vm-images/init). An engine that starts replaces these in one transaction, so that there are always some.
    """
    _try(_hold_rules)


def _hold_rules() -> None:
    rules = firewall.Firewall(TABLE, UPLINK)
    rules.reset([], [])
    rules.close()
    fast = FastPath(TABLE, UPLINK)
    fast.reset([])
    fast.close()


def rehearse() -> None:
    """Returns when it is over, for the engine is to be forked by a process of one thread. What fails here is of no consequence."""
    if os.cpu_count() == 1:  # which PID 1 needs itself
        return
    network = threading.Thread(target=_try, args=(_network,))
    network.start()
    _try(_database)
    network.join()


def _try(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception as error:
        log.info("rehearsing the start: %s", error)


def _network() -> None:
    firewall.rehearse()
    with Netlink() as netlink:
        netlink.links()
        netlink.addresses()
        netlink.routes()


def _database() -> None:
    folder = Path(RUN) / "rehearsal"
    folder.mkdir(mode=0o700)
    try:
        database = Database(folder / "metadata.db")
        with database.transaction():
            database.execute("CREATE TABLE rehearsal (id TEXT PRIMARY KEY, record TEXT) STRICT")
        database.execute("INSERT INTO rehearsal VALUES (?, ?)", ("id", "record"))
        database.query("SELECT record FROM rehearsal WHERE id = ?", ("id",))
        database.close()
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
