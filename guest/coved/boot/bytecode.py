"""What Python has compiled so far, for a host that keeps it: the next boot of the image finds it there (vm-images/init)."""

import contextlib
import os

from coved.boot.console import say
from coved.boot.places import DATA
from coved.boot.system import run

ASKED = b"bytecode\n"
"""What a host says in place of a seed; the answer is a number of bytes, in a line, and an archive of so many."""
_GIVEN = "COVE_BYTE_CODE"
"""In the environment, when the host has given it."""
_ARCHIVE = "/run/bytecode.tar"


def put_by() -> None:
    """Take it from where the data disk will be mounted: nobody sees it there any more, but it would be saved with the VM."""
    folder = os.environ.get("PYTHONPYCACHEPREFIX", "")
    if _GIVEN not in os.environ and os.path.isdir(folder) and run("/bin/tar", "-c", "-f", _ARCHIVE, "-C", folder, "."):
        say("what was compiled cannot be kept for the next boot")
        forget()
    run("/bin/rm", "-rf", f"{DATA}/system")


def give(port: int) -> None:
    """To the host that has asked for it; nothing, when it has given it itself. Raises ``OSError``."""
    data = b""
    with contextlib.suppress(FileNotFoundError), open(_ARCHIVE, "rb") as file:
        data = file.read()
    forget()
    left = memoryview(b"%d\n" % len(data) + data)
    while left:
        left = left[os.write(port, left) :]


def forget() -> None:
    """Once the machine begins, nobody asks for it any more."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_ARCHIVE)
