"""Starting a machine when its user logs in: one entry of the system's own kind for each machine, and nothing that runs meanwhile.

macOS has launchd's agents (launchd.plist(5)), Windows a key of the registry, and other desktops files (freedesktop.org's "Desktop
Application Autostart"). Each runs `cove machine start NAME` once.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from cove.errors import CoveError
from cove.machine.files import write_whole
from cove.machine.ownership import way_out

KEPT = ("COVE_HOME", "DOCKER_CONFIG")
"""What of the environment decides which machine it is; a login session may not have it."""


class Autostart(ABC):
    """One system's entries. Methods raise `CoveError`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._kept = {name: environment[name] for name in KEPT if environment.get(name)}

    @abstractmethod
    def is_on(self, machine: str) -> bool: ...

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

    @staticmethod
    def _label(machine: str) -> str:
        return f"org.cove.machine.{machine}"

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
                "ProcessType": "Background",
            }
        )


class DesktopEntries(Files):
    """Linux, and other systems with such desktops."""

    def place(self, machine: str) -> Path:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return Path(base) / "autostart" / f"cove-{machine}.desktop"

    def content(self, machine: str) -> bytes:
        words = _words(machine)
        if self._kept:
            words = ["env", *(f"{name}={value}" for name, value in self._kept.items()), *words]
        line = " ".join(map(_quoted, words))
        text = f"[Desktop Entry]\nType=Application\nName=Cove machine {machine}\nExec={line}\nTerminal=false\nNoDisplay=true\n"
        return text.encode()


def _quoted(word: str) -> str:
    """A word of Exec (Desktop Entry Specification, "The Exec key"): twice, as a string of the file and as an argument."""
    for special in '\\"`$':
        word = word.replace(special, f"\\{special}")
    return '"' + word.replace("\\", "\\\\").replace("%", "%%").replace("\n", "\\n") + '"'


def _words(machine: str) -> Sequence[str]:
    return [sys.executable, "-m", "cove", "machine", "start", machine]


if sys.platform == "win32":
    import subprocess
    import winreg

    _RUN = r"Software\Microsoft\Windows\CurrentVersion\Run"

    class RunKey(Autostart):
        """Windows. What is told of the environment has to be in the user's own there (setx)."""

        @staticmethod
        def _name(machine: str) -> str:
            return f"Cove machine {machine}"

        def is_on(self, machine: str) -> bool:
            try:
                with winreg.OpenKey(winreg.HKEY_CURRENT_USER, _RUN) as key:
                    winreg.QueryValueEx(key, self._name(machine))
            except OSError:
                return False
            return True

        def turn_on(self, machine: str) -> None:
            windowless = Path(sys.executable).with_name("pythonw.exe")
            words = [str(windowless) if windowless.exists() else sys.executable, *_words(machine)[1:]]
            try:
                with winreg.CreateKey(winreg.HKEY_CURRENT_USER, _RUN) as key:
                    winreg.SetValueEx(key, self._name(machine), 0, winreg.REG_SZ, subprocess.list2cmdline(words))
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
