"""Files with the time zone of the user's computer, for containers that bind its `/etc/localtime` and `/etc/timezone`.

Compose files do that to have the computer's time in logs; the two lie in no folder that anybody shares, and no container may
change them for the others.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from coved.outside import Zone

FOLDER = Path("/run/cove/zone")
_NAMES = {"/etc/localtime": "localtime", "/etc/timezone": "timezone"}


def is_known(source: str, zone: Zone) -> bool:
    """Whether a path is one of the two, and what is in it can be told."""
    return bool({"/etc/localtime": zone.file, "/etc/timezone": zone.name}.get(source))


def place(source: str, zone: Zone, folder: Path) -> Path:
    """The file that stands for ``source``, which is known, as the zone is now. Raises OSError.

    One that a container has mounted stays as it is: a new one takes its name.
    """
    name = _NAMES[source]
    data = zone.data() if name == "localtime" else f"{zone.name}\n".encode()
    file = folder / name
    with contextlib.suppress(OSError):
        if file.read_bytes() == data:
            return file
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = folder / f".{name}.{threading.get_ident()}"  # a compose file starts several containers at once
    new.write_bytes(data)
    new.chmod(0o644)
    new.replace(file)
    return file
