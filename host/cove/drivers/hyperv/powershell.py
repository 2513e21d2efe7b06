"""Scripts for Windows PowerShell: values put into them, scripts run, answers and errors read.

`Script` is the only way to a script, and `quoted` the only place where a value becomes PowerShell. What a script says comes back as
one line of base64: a console's code page, a warning or a progress bar cannot get into it. Errors come with their identifiers, which
are the same in every language of Windows; their texts are not.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cove.errors import DriverError, HypervisorMissing

TIMEOUT_S = 60.0
"""Loading the module alone takes seconds on a laptop that has just woken up."""
MAX_COMMAND_LINE = 32000
"""Characters; Windows takes 32767 (CreateProcess)."""
_MARK = b"cove:"
_QUOTES = re.compile("['\u2018\u2019\u201a\u201b]")
"""What PowerShell takes for a single quotation mark (its language specification, 2.3.5.2)."""
_PLACE = re.compile(r"<([a-z_]+)>")

_FRAME = """\
$ErrorActionPreference = 'Stop'; $ProgressPreference = 'SilentlyContinue'; $WarningPreference = 'SilentlyContinue'
try { $answer = @{ ok = $true; answer = (& {
%s
}) } } catch {
  $cause = $_.Exception; while ($cause.InnerException) { $cause = $cause.InnerException }
  $answer = @{ ok = $false; message = [string]$_.Exception.Message; id = [string]$_.FullyQualifiedErrorId
    category = [string]$_.CategoryInfo.Category; code = ('0x{0:X8}' -f $cause.HResult) }
}
$json = ConvertTo-Json -InputObject $answer -Compress -Depth 5
[Console]::Out.WriteLine('cove:' + [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($json)))
"""

Value = str | int | bool | None | uuid.UUID | Path | Sequence[str]


def quoted(value: Value) -> str:
    """A value as a literal of PowerShell, which takes nothing in it for anything else. Raises ``ValueError`` for what is none."""
    if value is None:
        return "$null"
    if isinstance(value, bool):
        return "$true" if value else "$false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str | Path | uuid.UUID):
        text = str(value)
        if "\0" in text:
            raise ValueError("no name or path has a zero character in it")
        # In single quotation marks nothing has a meaning but these, which are themselves when they are doubled.
        return "'" + _QUOTES.sub(r"\g<0>\g<0>", text) + "'"
    return "@(" + ", ".join(quoted(one) for one in value) + ")"


@dataclass(frozen=True, slots=True)
class Script:
    """PowerShell in which every ``<name>`` is a value of that name. The text is the program's own, and never made of values."""

    text: str

    @property
    def places(self) -> set[str]:
        return set(_PLACE.findall(self.text))

    def __call__(self, **values: Value) -> str:
        """The script with the values in it. Raises ``ValueError`` when they are not those that it wants."""
        if (wanted := self.places) != set(values):
            raise ValueError(f"the script wants {sorted(wanted)}, not {sorted(values)}")
        return _PLACE.sub(lambda place: quoted(values[place[1]]), self.text.strip())


class ScriptError(DriverError):
    """An error that a script ended with. `identifier` and `code` are PowerShell's, in no language."""

    def __init__(self, message: str, identifier: str = "", category: str = "", code: str = "") -> None:
        super().__init__(message)
        self.identifier = identifier
        self.category = category
        self.code = code


def program() -> Path:
    """Windows' own PowerShell, by its whole path: another one on PATH is a stranger's."""
    root = os.environ.get("SYSTEMROOT", r"C:\Windows")
    return Path(root, "System32", "WindowsPowerShell", "v1.0", "powershell.exe")


class PowerShell:
    """Runs scripts, each in a process of its own."""

    def __init__(self, words: Sequence[str] | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """``words`` begin the command line."""
        self._words = list(words) if words is not None else [str(program())]
        self._timeout_s = timeout_s

    async def run(self, script: str, timeout_s: float | None = None) -> Any:
        """What the script's pipeline gives, by way of JSON. Its process has ended then, also when this is cancelled.

        Raises `ScriptError` for an error in it, `DriverError` when it does not end in time or says nothing, `HypervisorMissing`
        when there is no PowerShell.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                **_window(),
            )  # fmt: skip
        except OSError as error:
            raise self._missing(error) from error
        try:
            async with asyncio.timeout(timeout_s or self._timeout_s):
                output, errors = await process.communicate()
        except TimeoutError:
            raise DriverError("Hyper-V does not answer in time", _NO_ANSWER) from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return parsed(output, errors)

    def run_blocking(self, script: str) -> Any:
        """The same for threads."""
        try:
            done = subprocess.run(
                self._command(script), stdin=subprocess.DEVNULL, capture_output=True, timeout=self._timeout_s, check=False,
                **_window(),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise DriverError("Hyper-V does not answer in time", _NO_ANSWER) from None
        except OSError as error:
            raise self._missing(error) from error
        return parsed(done.stdout, done.stderr)

    def _command(self, script: str) -> list[str]:
        # UTF-16 has room for what a path of Windows may have in it that is no character.
        encoded = base64.b64encode((_FRAME % script).encode("utf-16-le", "surrogatepass")).decode("ascii")
        words = [*self._words, "-NoLogo", "-NoProfile", "-NonInteractive", "-EncodedCommand", encoded]
        if sum(len(word) + 3 for word in words) > MAX_COMMAND_LINE:
            raise DriverError("a name or path is too long for a command to Hyper-V", "set COVE_HOME to a shorter path")
        return words

    def _missing(self, error: OSError) -> HypervisorMissing:
        return HypervisorMissing(
            f"{self._words[0]} cannot be run: {error.strerror}", "Hyper-V is told what to do by it"
        )


_NO_ANSWER = "its service may hang: restart it as an administrator with Restart-Service vmms, or restart the computer"


def parsed(output: bytes, errors: bytes = b"") -> Any:
    """The answer in what PowerShell wrote. Raises `ScriptError`, and `DriverError` when there is none."""
    for line in output.splitlines():
        if line.startswith(_MARK):
            try:
                said = json.loads(base64.b64decode(line.removeprefix(_MARK), validate=True))
                if said["ok"]:
                    return said["answer"]
                words = [said[name] for name in ("message", "id", "category", "code")]
                raise ScriptError(*(str(word).strip() for word in words))
            except (binascii.Error, ValueError, KeyError, TypeError) as error:
                raise DriverError(f"PowerShell's answer cannot be read: {error}") from error
    said = " ".join((errors or output).decode("utf-8", "replace").split())[:300]
    raise DriverError(
        f"PowerShell gave no answer{': ' if said else ''}{said}",
        "see whether scripts are forbidden on this computer (AppLocker, constrained language mode)",
    )


def _window() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW}
    return {}
