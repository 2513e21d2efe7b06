"""Who is killed when memory runs out (proc(5), oom_score_adj): containers, before what holds them."""

import contextlib
import os


def spare_this() -> None:
    """Choose this process, and all that it forks from now on, only when there is nothing else: it is small, and others go with it.

    Without the right to do so (CAP_SYS_RESOURCE) it stays as it is.
    """
    with contextlib.suppress(OSError):
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"-999")
        finally:
            os.close(fd)
