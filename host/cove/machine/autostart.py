"""Starting a machine when its user logs in: one entry of the system's own kind for each machine, and nothing that runs meanwhile.

macOS has launchd's agents (launchd.plist(5)), Windows a key of the registry, and other desktops files (freedesktop.org's "Desktop
Application Autostart"). Each runs `cove machine start NAME` once.
"""

from __future__ import annotations

import hashlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from cove.errors import CoveError
from cove.machine.files import write_whole
from cove.machine.ownership import way_out

KEPT = ("COVE_HOME", "DOCKER_CONFIG", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONPYCACHEPREFIX")
"""What of the environment decides which machine it is, and where Python finds Cove (the packages for macOS say it so); a login session
may not have it."""


class Autostart(ABC):
    """One system's entries. Methods raise `CoveError`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._kept = {name: environment[name] for name in KEPT if environment.get(name)}
        self._home = ""
        if home := self._kept.get("COVE_HOME"):
            self._home = self._kept["COVE_HOME"] = str(Path(home).absolute())

    def _named(self, machine: str) -> str:
        """What an entry is called by: machines of one name in two homes have one each, and neither's removal takes the other's. Names of
        machines have no dots."""
        return f"{machine}.{hashlib.sha256(self._home.encode()).hexdigest()[:8]}" if self._home else machine

    @abstractmethod
    def is_on(self, machine: str) -> bool: ...

    @abstractmethod
    def is_current(self, machine: str) -> bool:
        """Whether it is on as `turn_on` would have it: of another Cove, or one that was moved since, it may start nothing."""

    @abstractmethod
    def turn_on(self, machine: str) -> None:
        """Also when it is on already: the program may be in another place by now."""

    @abstractmethod
    def turn_off(self, machine: str) -> None:
        """What is not there is off."""


class Files(Autostart):
    """Entries that are files."""

    @abstractmethod
    def place(self, machine: str) -> Path: ...

    @abstractmethod
    def content(self, machine: str) -> bytes: ...

    def is_on(self, machine: str) -> bool:
        return self.place(machine).exists()

    def is_current(self, machine: str) -> bool:
        try:
            return self.place(machine).read_bytes() == self.content(machine)
        except OSError:
            return False

    def turn_on(self, machine: str) -> None:
        place = self.place(machine)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, self.content(machine), 0o644)
        except OSError as error:
            raise CoveError(f"{place} cannot be written: {error.strerror}", way_out(place)) from error

    def turn_off(self, machine: str) -> None:
        try:
            self.place(machine).unlink(missing_ok=True)
        except OSError as error:
            raise CoveError(f"{self.place(machine)} cannot be removed: {error.strerror}") from error


class LaunchAgents(Files):
    """macOS. launchd finds the file at the next login by itself."""

    def place(self, machine: str) -> Path:
        return Path.home() / "Library" / "LaunchAgents" / f"{self._label(machine)}.plist"

    def _label(self, machine: str) -> str:
        return f"org.cove.machine.{self._named(machine)}"

    def content(self, machine: str) -> bytes:
        import plistlib

        return plistlib.dumps(
            {
                "Label": self._label(machine),
                "ProgramArguments": [*_words(machine)],
                "RunAtLoad": True,
                "EnvironmentVariables": self._kept,
                # The agent and QEMU, which it starts, are to stay when it has ended.
                "AbandonProcessGroup": True,
                # No ProcessType: as "Background" launchd would hold back the processor and the disk of all that runs in the VM.
            }
        )


class DesktopEntries(Files):
    """Linux, and other systems with such desktops."""

    def place(self, machine: str) -> Path:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return Path(base) / "autostart" / f"cove-{self._named(machine)}.desktop"

    def content(self, machine: str) -> bytes:
        words = _words(machine)
        if self._kept:
            words = ["env", *(f"{name}={value}" for name, value in self._kept.items()), *words]
        line = " ".join(map(_quoted, words))
        # TryExec: with Cove's own Python its package is gone, and nothing is to be tried at each login from then on.
        program = _escaped(sys.executable)
        text = f"[Desktop Entry]\nType=Application\nName=Cove machine {machine}\nTryExec={program}\nExec={line}\n"
        return f"{text}Terminal=false\nNoDisplay=true\n".encode()


def _escaped(text: str) -> str:
    """A string of the file."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(word: str) -> str:
    """A word of Exec (Desktop Entry Specification, "The Exec key"): twice, as a string of the file and as an argument."""
    for special in '\\"`$':
        word = word.replace(special, f"\\{special}")
    return '"' + _escaped(word).replace("%", "%%") + '"'


def _words(machine: str) -> Sequence[str]:
    return [sys.executable, "-m", "cove", "machine", "start", machine]


if sys.platform == "win32":
    import subprocess
    import winreg

    _RUN = r"Software\Microsoft\Windows\CurrentVersion\Run"

    class RunKey(Autostart):
        """Windows. What is told of the environment has to be in the user's own there (setx)."""

        def _name(self, machine: str) -> str:
            return f"Cove machine {self._named(machine)}"

        def is_on(self, machine: str) -> bool:
            return self._found(machine) is not None

        def is_current(self, machine: str) -> bool:
            return self._found(machine) == self._line(machine)

        def _found(self, machine: str) -> str | None:
            try:
                with winreg.OpenKey(winreg.HKEY_CURRENT_USER, _RUN) as key:
                    return str(winreg.QueryValueEx(key, self._name(machine))[0])
            except OSError:
                return None

        def _line(self, machine: str) -> str:
            windowless = Path(sys.executable).with_name("pythonw.exe")
            words = [str(windowless) if windowless.exists() else sys.executable, *_words(machine)[1:]]
            return subprocess.list2cmdline(words)

        def turn_on(self, machine: str) -> None:
            try:
                with winreg.CreateKey(winreg.HKEY_CURRENT_USER, _RUN) as key:
                    winreg.SetValueEx(key, self._name(machine), 0, winreg.REG_SZ, self._line(machine))
            except OSError as error:
                raise CoveError(f"the registry's {_RUN} cannot be written: {error.strerror}") from error

        def turn_off(self, machine: str) -> None:
            try:
                with winreg.OpenKey(winreg.HKEY_CURRENT_USER, _RUN, 0, winreg.KEY_SET_VALUE) as key:
                    winreg.DeleteValue(key, self._name(machine))
            except FileNotFoundError:
                return
            except OSError as error:
                raise CoveError(f"the registry's {_RUN} cannot be written: {error.strerror}") from error


def here(environment: Mapping[str, str] = os.environ) -> Autostart:
    """This system's."""
    if sys.platform == "win32":
        return RunKey(environment)
    return LaunchAgents(environment) if sys.platform == "darwin" else DesktopEntries(environment)
