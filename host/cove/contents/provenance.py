"""Who made a document, and when: the only thing in it that is another the next time, unless SOURCE_DATE_EPOCH says the time."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cove.errors import CoveError

TOOL = "cove"


@dataclass(frozen=True, slots=True)
class Provenance:
    """`time` is RFC 3339, in whole seconds and UTC."""

    time: str
    version: str


def now() -> Provenance:
    """Raises `CoveError` for a SOURCE_DATE_EPOCH that is no time."""
    from importlib.metadata import version

    given = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        moment = datetime.fromtimestamp(int(given), UTC) if given else datetime.now(UTC)
    except (ValueError, OverflowError, OSError):
        raise CoveError(f"SOURCE_DATE_EPOCH is no number of seconds: {given!r}") from None
    return Provenance(moment.strftime("%Y-%m-%dT%H:%M:%SZ"), version("cove"))


def identity(document: Mapping[str, Any]) -> str:
    """A UUID of what is in a document: the same content has the same, and no other has it."""
    text = json.dumps(document, sort_keys=True)
    return str(uuid.uuid5(uuid.NAMESPACE_URL, hashlib.sha256(text.encode()).hexdigest()))
