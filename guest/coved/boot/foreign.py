"""Programs of other processors: the kernel is told which interpreter runs which (Documentation/admin-guide/binfmt-misc.rst).

What it is told is Debian's (qemu-user, /usr/share/qemu/binfmt.d), and so is what is there (vm-images/recipe.toml).
"""

import os

from coved.boot import system
from coved.boot.console import say

REGISTRY = "/proc/sys/fs/binfmt_misc"
RECORDS = "/usr/share/qemu/binfmt.d"
FLAGS = "POCF"
"""How each interpreter is called. F: opened now, so that it is found whatever root a container has. P: argv[0] stays as it was
given. C, with O: a set-user-ID program gets its owner's rights, as it would without an interpreter; Debian leaves that to who
administers a computer, and in here those rights end at the container, as everywhere."""


def register() -> None:
    """Once in a boot, before there is any container. What fails is told on the console: this machine's own programs do run."""
    try:
        # The kernel loads the module for it.
        system.mount("binfmt_misc", REGISTRY, "binfmt_misc", system.MS_NOSUID | system.MS_NODEV | system.MS_NOEXEC)
        names = sorted(os.listdir(RECORDS))
    except OSError as error:
        say(f"programs of other processors do not run: {error.strerror}")
        return
    for name in names:
        try:
            with open(f"{RECORDS}/{name}", "rb") as file:
                record, interpreter = parsed(file.read().decode("ascii"))
        except (OSError, ValueError) as error:
            say(f"{RECORDS}/{name} cannot be read, and is not used: {error}")
            continue
        try:
            protect(os.path.realpath(interpreter))
        except OSError as error:
            say(f"{interpreter} cannot be protected, and is not used: {error.strerror}")
            continue
        system.write(f"{REGISTRY}/register", record)


def protect(path: str) -> None:
    """Make a file read-only for whoever comes by /proc/PID/exe, root in a container for one: others' programs run by it.

    The kernel refuses to write what it has opened for execution (ETXTBSY), but that has not been so in all its versions.
    """
    system.mount(path, path, "", system.MS_BIND)
    system.mount("", path, "", system.MS_BIND | system.MS_REMOUNT | system.MS_RDONLY)


def parsed(record: str) -> tuple[str, str]:
    """A record with ``FLAGS`` for its own, and its interpreter; its first character is what divides its fields. Raises
    ValueError for what is none."""
    record = record.strip()
    if not record or "\0" in record:
        raise ValueError("it is no record")
    *fields, _ = record.split(record[0])
    return record[0].join([*fields, FLAGS]), fields[-1]
