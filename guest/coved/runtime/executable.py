"""Find what a process is to execute, inside the container, with the words that docker's clients match on."""

import errno
import os
import stat

from coved.runtime.syscalls import describe

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_FOUND, NOT_EXECUTABLE = 127, 126


class NotExecutable(Exception):
    """``exit_code``: 127 when there is no such file, else 126."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def find(name: str, search_path: str) -> str:
    """The path to execute. Called as the user that the process will run as, in its working directory."""
    if "/" in name:
        try:
            status = os.stat(name)
        except OSError as error:
            code = NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
            raise NotExecutable(f'exec: "{name}": stat {name}: {describe(error)}', code) from None
        if stat.S_ISDIR(status.st_mode) or not os.access(name, os.X_OK, effective_ids=True):
            raise NotExecutable(f'exec: "{name}": permission denied', NOT_EXECUTABLE)
        return name
    for folder in search_path.split(":"):
        candidate = f"{folder or '.'}/{name}"
        try:
            status = os.stat(candidate)
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(status.st_mode) and os.access(candidate, os.X_OK, effective_ids=True):
            return candidate
    raise NotExecutable(f'exec: "{name}": executable file not found in $PATH', NOT_FOUND)
