"""The time zone of this computer, for containers that bind its `/etc/localtime` and `/etc/timezone`."""

from __future__ import annotations

import base64
import contextlib
import os
import re
from pathlib import Path

from coved.outside import ZONE_MAX, Zone

LOCALTIME, TIMEZONE = Path("/etc/localtime"), Path("/etc/timezone")
_MAGIC = b"TZif"
"""RFC 8536, section 3.1."""
_NAME = re.compile(r"[A-Za-z0-9_+-]{1,30}(?:/[A-Za-z0-9_+-]{1,30}){0,3}")


def told() -> Zone:
    """What is known of it: nothing where there are no such files, as on Windows."""
    try:
        data = LOCALTIME.read_bytes()
    except OSError:
        return Zone()
    if not data.startswith(_MAGIC) or len(data) > ZONE_MAX:
        return Zone()
    return Zone(_name(), base64.b64encode(data).decode())


def _name() -> str:
    """As "Europe/Berlin"; "" when nothing says it. The link is asked first: that file is the one that counts."""
    _, _, after = os.path.realpath(LOCALTIME).partition("zoneinfo/")
    names = [after.removeprefix("posix/").removeprefix("right/")]
    with contextlib.suppress(OSError, ValueError):
        names.append(TIMEZONE.read_text("ascii").strip())
    return next((name for name in names if _NAME.fullmatch(name)), "")
