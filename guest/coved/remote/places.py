"""Where things lie: on the host, and in the engine's own namespaces, where they are as in the VM (`coved.boot.places`)."""

from coved.boot.places import RUN

HOST = "/host"
"""The host's root, as the engine's namespaces have it."""
KEPT = "/var/lib/cove-remote"
"""On the host, a folder for each engine: its system, and what outlives a boot."""
OF_THE_BOOT = "/run/cove-remote"
"""The same of what ends with the boot."""
CGROUP = "/sys/fs/cgroup/cove-remote-"
RESOLVER = "/run/resolv.conf"
"""A link to the host's: /etc/resolv.conf leads here (`cove.remote.payload`)."""
BYTE_CODE = "/var/cache/cove"
"""What Python has compiled of this system: in its folder, and gone with it."""
NAME = f"{RUN}/name"
PID, BOOT_ID, SYSTEM, STREAMS = "pid", "boot_id", "system", "streams.sock"
"""Files of the folder of the boot. The first three are text, and there once the engine is being started."""


def own_name() -> str:
    """Of this engine, among all of the host."""
    with open(NAME, encoding="ascii") as file:
        return file.read().strip()
