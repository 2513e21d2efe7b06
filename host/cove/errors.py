"""What can go wrong on the laptop, said to a user: what happened, to what, and what to do next.

The command line prints `message` and, indented below it, `hint`; anything that is not a `CoveError` is a bug.
"""

from __future__ import annotations

from cove.plain import printable


class CoveError(Exception):
    """An error that a user can read. `message` says what happened to what; `hint` is the way out (may be empty)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class SettingsError(CoveError):
    """A settings file, key or value that cannot be used."""


class MachineNotFound(CoveError):
    """There is no machine of that name."""


class MachineExists(CoveError):
    """There is a machine of that name already."""


class MachineBusy(CoveError):
    """Another process holds the machine and does not let go of it in time."""


class MachineInUse(CoveError):
    """Docker clients are connected to a machine that is to be suspended."""


class HypervisorMissing(CoveError):
    """The program that runs virtual machines is not installed, or not usable."""


class DriverError(CoveError):
    """The hypervisor refused or failed."""


class StateError(DriverError):
    """A saved state of a VM that the hypervisor does not take."""


class PortInUse(DriverError):
    """A host port that cannot be bound because somebody else has it."""


class BootError(CoveError):
    """The virtual machine was started and its engine did not come to answer."""


class GuestGaveUp(BootError):
    """The guest has said why it cannot be what it should be (its data, its disk): another boot would not help."""


class AgentError(CoveError):
    """The agent could not be started, or does not answer as agreed."""


class GivenUp(CoveError):
    """The user pressed Ctrl-C while a machine started; what became of the start."""


class TransportError(CoveError):
    """No byte stream into the guest could be opened."""


class RemoteError(CoveError):
    """Another computer cannot be reached, is not who it was, or did not do what was asked of it.

    Much of what is said then are that computer's words, which are to do nothing to the terminal.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(printable(message.replace("\n", " ")), printable(hint, "\n"))
