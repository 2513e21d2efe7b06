"""Starting a machine, or its icon in the tray, when its user logs in: one entry of the system's own kind for each, and nothing that runs
meanwhile.

macOS has launchd's agents (launchd.plist(5)), Windows a key of the registry, and other desktops files (freedesktop.org's "Desktop
Application Autostart"). Each runs its command once.
"""

from __future__ import annotations

import hashlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cove.errors import CoveError
from cove.machine.files import write_whole
from cove.machine.ownership import way_out

KEPT = ("COVE_HOME", "DOCKER_CONFIG", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONPYCACHEPREFIX")
"""What of the environment decides which machine it is, and where Python finds Cove (the packages for macOS say it so); a login session
may not have it."""


@dataclass(frozen=True, slots=True)
class Started:
    """What is started for a machine: its name follows the command's words. No two have the same `file` and a machine's name behind it."""

    kind: str
    file: str
    words: tuple[str, ...]


MACHINE = Started("machine", "cove-", ("machine", "start"))
TRAY = Started("tray", "cove.tray-", ("tray", "--wait", "120"))
"""A desktop that is just starting may take its time until it has a place for icons."""


class Autostart(ABC):
    """One system's entries for what is `started`. Methods raise `CoveError`."""

    def __init__(self, environment: Mapping[str, str], started: Started = MACHINE) -> None:
        self._started = started
        self._kept = {name: environment[name] for name in KEPT if environment.get(name)}
        self._home = ""
        if home := self._kept.get("COVE_HOME"):
            self._home = self._kept["COVE_HOME"] = str(Path(home).absolute())

    def _named(self, machine: str) -> str:
        """What an entry is called by: machines of one name in two homes have one each, and neither's removal takes the other's. Names of
        machines have no dots."""
        return f"{machine}.{hashlib.sha256(self._home.encode()).hexdigest()[:8]}" if self._home else machine

    def _words(self, machine: str) -> Sequence[str]:
        return [sys.executable, "-m", "cove", *self._started.words, machine]

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
        return f"org.cove.{self._started.kind}.{self._named(machine)}"

    def content(self, machine: str) -> bytes:
        import plistlib

        return plistlib.dumps(
            {
                "Label": self._label(machine),
                "ProgramArguments": [*self._words(machine)],
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
        return Path(base) / "autostart" / f"{self._started.file}{self._named(machine)}.desktop"

    def content(self, machine: str) -> bytes:
        words = self._words(machine)
        if self._kept:
            words = ["env", *(f"{name}={value}" for name, value in self._kept.items()), *words]
        line = " ".join(map(_quoted, words))
        # TryExec: with Cove's own Python its package is gone, and nothing is to be tried at each login from then on.
        program = _escaped(sys.executable)
        text = f"[Desktop Entry]\nType=Application\nName=Cove {self._started.kind} {machine}\nTryExec={program}\nExec={line}\n"
        return f"{text}Terminal=false\nNoDisplay=true\n".encode()


def _escaped(text: str) -> str:
    """A string of the file."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(word: str) -> str:
    """A word of Exec (Desktop Entry Specification, "The Exec key"): twice, as a string of the file and as an argument."""
    for special in '\\"`$':
        word = word.replace(special, f"\\{special}")
    return '"' + _escaped(word).replace("%", "%%") + '"'


if sys.platform == "win32":
    import subprocess
    import winreg

    _RUN = r"Software\Microsoft\Windows\CurrentVersion\Run"

    class RunKey(Autostart):
        """Windows. What is told of the environment has to be in the user's own there (setx)."""

        def _name(self, machine: str) -> str:
            return f"Cove {self._started.kind} {self._named(machine)}"

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
            words = [str(windowless) if windowless.exists() else sys.executable, *self._words(machine)[1:]]
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


def here(environment: Mapping[str, str] = os.environ, started: Started = MACHINE) -> Autostart:
    """This system's."""
    if sys.platform == "win32":
        return RunKey(environment, started)
    return LaunchAgents(environment, started) if sys.platform == "darwin" else DesktopEntries(environment, started)


def files(machine: str) -> list[Path]:
    """The entries of a machine that are files: all that are on, but on Windows."""
    entries = [here(started=started) for started in (MACHINE, TRAY)]
    return [entry.place(machine) for entry in entries if isinstance(entry, Files) and entry.is_on(machine)]


def forget(machine: str) -> None:
    """Of a machine that goes nothing is started any more. Raises `CoveError`."""
    for started in (MACHINE, TRAY):
        here(started=started).turn_off(machine)
