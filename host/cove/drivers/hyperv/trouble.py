"""What Hyper-V's errors mean, and what to do about them: one table.

Windows speaks the user's language, so an error is known by PowerShell's identifier and by the HRESULT that stands in its text; English
texts come last, for what has neither.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coved.streams.knock import HYPERV_SERVICE

from cove.drivers.hyperv.powershell import ScriptError
from cove.drivers.hyperv.scripts import SERVICES
from cove.errors import CoveError, DriverError, HypervisorMissing

ENABLE = (
    "as an administrator, in PowerShell: Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V -All\n"
    "and restart the computer. Windows Home has no Hyper-V: there Cove takes QEMU"
)
JOIN = (
    "as an administrator, in PowerShell: Add-LocalGroupMember -SID S-1-5-32-578 -Member $env:USERNAME\n"
    "(this group is called Hyper-V Administrators in English), then sign out and in again"
)
SERVICE = "as an administrator, in PowerShell: Start-Service vmms"
VIRTUALIZATION = (
    "switch virtualization (VT-x, AMD-V, SVM) on in the computer's firmware; when it is on: "
    "bcdedit /set hypervisorlaunchtype auto, as an administrator, and restart the computer"
)
REGISTER = (
    "once, as an administrator: "
    # PowerShell writes the registry's root with a colon.
    rf'reg add "{SERVICES.replace(":", "", 1)}\{HYPERV_SERVICE}" /v ElementName /t REG_SZ /d Cove /f'
)
"""A command for either of Windows' shells."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One kind of error. An error is of it when one of `identifiers`, `codes` or `texts` is in it."""

    name: str
    message: str
    hint: str
    kind: type[CoveError] = DriverError
    identifiers: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


TROUBLES = (
    Trouble(
        "missing", "Hyper-V is not there", ENABLE, HypervisorMissing,
        identifiers=("CommandNotFoundException", "CouldNotAutoLoadModule", "Modules_ModuleNotFound"),
    ),
    Trouble(
        "hypervisor", "Hyper-V's hypervisor does not run", VIRTUALIZATION, HypervisorMissing,
        codes=("0xC0351000", "0x80370102"), texts=("hypervisor is not running",),
    ),
    Trouble(
        "memory", "the computer has no memory left for the machine",
        "close programs, or give it less: cove machine config set memory 2G",
        identifiers=("OutOfMemory",), codes=("0x8007000E", "0x800705AA"),
    ),
    Trouble(
        "disk in use", "a disk of the machine is in use by another program",
        "is it mounted (Dismount-VHD), or does a backup or another VM have it? The file is named below",
        codes=("0x80070020", "0x800700AA"),
    ),
    Trouble(
        "disk full", "the disk is full: there is no room for the machine's files",
        "remove what is not needed there and try again", codes=("0x80070070",),
    ),
    Trouble(
        "file system", "the file system cannot hold the machine's disk",
        "Hyper-V's disks lie on NTFS or ReFS, and are neither compressed, encrypted nor sparse: set COVE_HOME to another folder",
        codes=("0x80070299", "0xC03A001A"),
    ),
    Trouble(
        "name taken", "something of the machine's name is there already", "see what it is: Get-VM",
        codes=("0x800700B7", "0x80070050"),
    ),
    Trouble(
        "service", "Hyper-V's service (vmms) does not answer", SERVICE, HypervisorMissing,
        codes=("0x800706BA", "0x80070426"),
        texts=("Virtual Machine Management service on the computer is running", "(VMMS) is not running"),
    ),
    Trouble(
        "rights", "you may not use Hyper-V", JOIN, HypervisorMissing,
        identifiers=("AccessDenied", "UnauthorizedAccess"), codes=("0x80070005", "0x80041003"),
        texts=("required permission to complete this task", "authorization policy for the computer"),
    ),
    Trouble(
        "gone", "Hyper-V does not know the machine's VM any more",
        "somebody has removed it there; the next start makes it again, with the disk that the machine has",
        identifiers=("ObjectNotFound", "InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM"),
    ),
)  # fmt: skip
"""The first that fits counts. A service that does not run is told in the words of an object that is not there."""

_CODE = re.compile(r"0x[0-9A-Fa-f]{8}")


def find(error: ScriptError) -> Trouble | None:
    codes = {code.upper().replace("X", "x", 1) for code in (*_CODE.findall(error.message), error.code)}
    for trouble in TROUBLES:
        if (
            any(error.identifier == one or error.identifier.startswith(f"{one},") for one in trouble.identifiers)
            or codes.intersection(trouble.codes)
            or any(text in error.message for text in trouble.texts)
        ):
            return trouble
    return None


def explained(error: ScriptError, doing: str) -> CoveError:
    """The error as a user can read it, with Hyper-V's own words at its end. ``doing``: "start the VM"."""
    said = " ".join(error.message.split())
    trouble = find(error)
    if trouble is None:
        return DriverError(f"Hyper-V could not {doing}: {said or error.identifier}")
    return trouble.kind(f"Hyper-V could not {doing}: {trouble.message}", f"{trouble.hint}\nHyper-V said: {said}")


def of_host(host: Mapping[str, Any]) -> HypervisorMissing | None:
    """What is wrong with what `scripts.HOST` tells; None when nothing is."""
    if not host["module"] or host["service"] == "Missing":
        return HypervisorMissing("Hyper-V is not there", ENABLE)
    if not host["hypervisor"]:
        return HypervisorMissing("Hyper-V's hypervisor does not run", VIRTUALIZATION)
    if host["service"] != "Running":
        return HypervisorMissing("Hyper-V's service (vmms) does not run", SERVICE)
    if not host["may"]:
        return HypervisorMissing("you may not use Hyper-V", JOIN)
    if not host["registered"]:
        return HypervisorMissing("Windows does not let Cove into its machines on Hyper-V yet", REGISTER)
    return None
