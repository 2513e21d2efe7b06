"""Capability sets of a process. capabilities(7), OCI config.md "Linux Process"."""

import errno
from typing import TYPE_CHECKING

from coved.runtime import syscalls

if TYPE_CHECKING:
    from coved.runtime.spec import Capabilities

# linux/capability.h, in the order of their numbers.
NAMES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID"),
    *("CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST"),
    *("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO"),
    *("CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE"),
    *("CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE"),
    *("CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM"),
    *("CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"),
)
_NUMBERS = {name: number for number, name in enumerate(NAMES)}
CAP_SYS_ADMIN = 1 << _NUMBERS["CAP_SYS_ADMIN"]


class CapabilitySets:
    """Bit masks of the five sets; capabilities that this process may not give are left out and named in ``missing``."""

    def __init__(self, capabilities: "Capabilities") -> None:
        self._available = available = bounding_set()
        missing: set[str] = set()

        def mask(names: list[str]) -> int:
            bits = 0
            for name in names:
                number = _NUMBERS.get(name)
                if number is None:
                    raise ValueError(f"unknown capability '{name}'")
                if available >> number & 1:
                    bits |= 1 << number
                else:
                    missing.add(name)
            return bits

        self.bounding = mask(capabilities.get("bounding", []))
        self.permitted = mask(capabilities.get("permitted", []))
        self.effective = mask(capabilities.get("effective", [])) & self.permitted
        self.inheritable = mask(capabilities.get("inheritable", []))
        self.ambient = mask(capabilities.get("ambient", [])) & self.permitted & self.inheritable
        self.missing = sorted(missing)

    def drop_bounding(self) -> None:
        """Must come first: it needs CAP_SETPCAP. What is given up here is in no other set either."""
        number = 0
        while self._available >> number:
            if self._available >> number & 1 and not self.bounding >> number & 1:
                syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
            number += 1
        for name in ("permitted", "effective", "inheritable", "ambient"):
            setattr(self, name, getattr(self, name) & self.bounding)

    def apply(self, keep: int = 0) -> None:
        """Set effective, permitted and inheritable; ``keep`` are those still needed, dropped by a second call."""
        syscalls.capset(self.effective | keep, self.permitted | keep, self.inheritable)

    def apply_ambient(self) -> None:
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
        number = 0
        while self.ambient >> number:
            if self.ambient >> number & 1:
                syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, number)
            number += 1


def bounding_set() -> int:
    """Of this thread, as a bit mask. Not from /proc, where a container may have mounted something else by now."""
    found = number = 0
    while True:
        try:
            found |= syscalls.prctl(syscalls.PR_CAPBSET_READ, number) << number
        except OSError as error:
            if error.errno != errno.EINVAL:  # there is no such capability, nor one beyond it
                raise
            return found
        number += 1
