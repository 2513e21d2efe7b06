"""What the host said last of the outside, proxies and certificates: it is in force, and kept for the engine that comes after this one."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from coved.outside import Outside

log = logging.getLogger(__name__)


class CurrentOutside:
    """``now`` counts for what begins from now on. Belongs to the event loop; others read."""

    def __init__(self, start: Outside | Path) -> None:
        """``start``: a file, which may not be there, is where it is kept; without one it ends with the engine."""
        self._file = start if isinstance(start, Path) else None
        self.now = Outside() if isinstance(start, Path) else start
        if self._file is not None:
            try:
                self.now = Outside.from_json(json.loads(self._file.read_bytes()))
            except FileNotFoundError:
                pass
            except (OSError, ValueError, RecursionError) as error:
                log.error("%s: %s", self._file, error)

    def renew(self, outside: Outside) -> None:
        if outside == self.now:
            return
        self.now = outside
        shown = ", ".join(f"{name} {value or 'none'}" for name, value in outside.shown().items())
        log.info("the host says: %s, %d certificates", shown, outside.authorities.count("-----BEGIN CERT"))
        if self._file is not None:
            new = self._file.with_suffix(".new")
            try:
                with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
                    json.dump(outside.to_json(), file)
                new.rename(self._file)
            except OSError as error:  # the host tells the next engine, too
                log.warning("%s cannot be written: %s", self._file, error)
