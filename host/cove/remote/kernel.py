"""What the kernel of another computer has to have for folders of this one."""

from __future__ import annotations

from cove.remote import scripts
from cove.remote.host import Host

LOOK_S = 60.0
HINT_9P = (
    "install the extra modules of that computer's kernel (linux-modules-extra-...), and modprobe 9p 9pnet_fd there"
)


def has_9p(host: Host) -> bool:
    """Whether folders can be had there. Raises `RemoteError`."""
    return host.run(scripts.words(scripts.HAS_9P), timeout_s=LOOK_S).status == 0
