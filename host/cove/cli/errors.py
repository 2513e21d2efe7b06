"""What the docker verbs raise, and the exit status that each failure ends with.

Docker's statuses (docs.docker.com/reference/cli/docker/container/run/#exit-status): 125 the client or the engine
failed, 126 the command cannot be invoked, 127 it was not found, otherwise the container's own; 1 everywhere outside
run, create and exec.
"""

from __future__ import annotations

from collections.abc import Iterable


class CliError(Exception):
    """Ends the command: `message` goes to stderr (nothing when empty), `status` is the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class UsageError(CliError):
    """The command line itself is wrong. The usage line follows the message; docker's status for it is 125."""

    def __init__(self, message: str, status: int = 125) -> None:
        super().__init__(message, status)


class UnknownCommand(CliError):
    """A group of commands, called by `path`, has none of this name, but those that are `known`."""

    def __init__(self, path: str, name: str, known: Iterable[str] = (), usage: str = " COMMAND") -> None:
        from cove.cli.nearest import suggestion

        super().__init__(
            f"cove: unknown command: {path} {name}{suggestion(name, known)}\n\nUsage:  {path}{usage}\n\n"
            f"Run '{path} --help' for more information"
        )
        self.name = name


class HelpfulError(CliError):
    """An error of `run` or `create`: told with the program's name before it and a pointer to --help after it."""

    def __init__(self, message: str, status: int = 125) -> None:
        super().__init__(message, status)


class DaemonError(CliError):
    """The engine refused. `code` is the HTTP status, `reason` the engine's own words."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"Error response from daemon: {reason}")
        self.code = code
        self.reason = reason


class ForcedExit(CliError):
    """The user has asked three times (`terminal.signals_to`)."""

    def __init__(self) -> None:
        super().__init__("\ngot 3 SIGTERM/SIGINTs, forcefully exiting")


class Detached(CliError):
    """The user has typed the detach keys. `attach` and `exec` end with it as docker's do; for `run` and `start` it is no
    failure.
    """

    def __init__(self) -> None:
        super().__init__("read escape sequence")


class ConnectionFailed(CliError):
    """Nothing answers where the engine should be, or it stopped in the middle of an answer."""


def start_status(message: str) -> int:
    """Docker's exit status for an engine that could not start a process: 127 not found, 126 not executable, otherwise
    125.
    """
    if any(
        text in message for text in ("executable file not found", "no such file or directory", "cannot find the file")
    ):
        return 127
    if any(text in message for text in ("permission denied", "is a directory")):
        return 126
    return 125


def os_error_text(error: OSError, verb: str = "open") -> str:
    """An `OSError` in docker's (that is, Go's) words, as scripts may expect them."""
    text = (error.strerror or str(error)).lower()
    return f"{verb} {error.filename}: {text}"
