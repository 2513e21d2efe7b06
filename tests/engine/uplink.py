"""A way out for an engine on this computer, whose network namespace has none."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

from debian_files import slirp4netns_program
from engines import Engine


@contextlib.contextmanager
def uplink(engine: Engine) -> Iterator[None]:
    """Let its containers reach what this computer reaches, for the time of the block.

    As in the VM, a process leads their connections on as its own; this computer's interfaces and rules stay as they are, and
    its own services are not reached.
    """
    ready, told = os.pipe()
    words = [str(slirp4netns_program()), "--configure", "--disable-host-loopback", f"--ready-fd={told}"]
    with subprocess.Popen(
        [*words, str(engine.namespace_pid), "uplink0"], pass_fds=[told], stdout=subprocess.DEVNULL
    ) as process:
        os.close(told)
        try:
            with open(ready, "rb") as file:
                assert file.read(1) == b"1", "slirp4netns did not start"
            yield
        finally:
            process.terminate()
