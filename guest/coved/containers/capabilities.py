"""Which capabilities a container's processes hold: Docker's default set, and ``--cap-add`` / ``--cap-drop`` on top of it."""

from __future__ import annotations

from collections.abc import Iterable

from coved.errors import InvalidParameter
from coved.runtime.capabilities import NAMES

DEFAULT = tuple(
    "CAP_" + name
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
    ).split()
)

ALL = "ALL"


def normalise(names: Iterable[str], option: str) -> list[str]:
    """Bring ``net_admin``, ``NET_ADMIN`` and ``CAP_NET_ADMIN`` to one form; raises InvalidParameter for names Linux does not have."""
    result: list[str] = []
    for name in names:
        upper = name.upper()
        if upper == ALL:
            result.append(ALL)
            continue
        full = upper if upper.startswith("CAP_") else "CAP_" + upper
        if full not in NAMES:
            raise InvalidParameter(f'invalid {option}: unknown capability: "{full}"')
        if NAMES.index(full) > last_supported():
            words = "capability not supported by your kernel or not available in the current environment"
            raise InvalidParameter(f'invalid {option}: {words}: "{full}"')
        result.append(full)
    return result


def last_supported() -> int:
    """Number of the highest capability that the running kernel knows (``/proc/sys/kernel/cap_last_cap``)."""
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:  # noqa: PTH123 - on the path of every start
        return int(file.read())


def effective(add: Iterable[str], drop: Iterable[str], *, privileged: bool, limit: int | None = None) -> list[str]:
    """The set a container runs with. A privileged one has all; ``ALL`` in ``add`` or ``drop`` is meant as Docker means it.

    ``limit`` is the highest capability number to use (the kernel's own when it is None).
    """
    supported = NAMES[: (last_supported() if limit is None else limit) + 1]
    if privileged:
        return list(supported)
    added, dropped = set(add), set(drop)
    if ALL in added:
        return [name for name in supported if name not in dropped]
    if ALL in dropped:
        return [name for name in supported if name in added]
    kept = [name for name in DEFAULT if name not in dropped]
    return kept + [name for name in supported if name in added and name not in kept]
