"""Steps of tidying up, of which each is to be taken whatever became of those before it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from coved.networks.records import Record

log = logging.getLogger(__name__)


@contextlib.contextmanager
def told(record: Record, consequence: str) -> Iterator[None]:
    """What fails within is logged, with what comes of it for the sandbox, and goes no further."""
    try:
        yield
    except Exception as error:
        log.error("the network of container %s: %s, for: %s", record.container_id[:12], consequence, error)
