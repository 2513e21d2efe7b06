"""What Windows says when something is wrong, as people have reported it from their computers, and what Cove says then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cove.drivers.hyperv import scripts, trouble
from cove.drivers.hyperv.powershell import ScriptError
from cove.errors import DriverError, HypervisorMissing
from coved.streams.knock import HYPERV_SERVICE
from hyperv_model import GOOD

COMMANDS = "Microsoft.HyperV.PowerShell.Commands"
REPORTED = [
    # Name of the trouble, identifier, message. kubernetes/minikube issues 18049, 6249 and MSLab 300: English, Chinese, Polish.
    (
        "memory",
        f"OutOfMemory,{COMMANDS}.StartVM",
        "'minikube' failed to start.\nNot enough memory in the system to start the virtual machine minikube.\nCould not initialize "
        "memory: Not enough memory resources are available to complete this operation. (0x8007000E).",
    ),
    (
        "memory",
        f"OutOfMemory,{COMMANDS}.StartVM",
        "“minikube”无法启动。\n系统内存不足，无法启动虚拟机 minikube。\n无法初始化内存: Ran out of memory (0x8007000E)。",
    ),
    (
        "memory",
        f"Unspecified,{COMMANDS}.StartVM",
        "Nie można uruchomić maszyny „DC”.\nNie można przydzielić 2048 MB pamięci RAM: Zasoby systemowe nie wystarczają do "
        "ukończenia żądanej usługi. (0x800705AA).",
    ),
    # minikube 6732, 9286, 6918: what has no rights is told so in two ways.
    (
        "rights",
        f"Unspecified,{COMMANDS}.GetVM",
        "You do not have the required permission to complete this task. Contact the administrator of the authorization policy for "
        "the computer 'DESKTOP-1CILTF5'.",
    ),
    (
        "rights",
        f"AccessDenied,{COMMANDS}.StartVM",
        "'minikube' failed to start. (Virtual machine ID D43F8370-1920-4398-AAF3-19C8C7B6F0E6)",
    ),
    # LabBuilder 203, Windows-Admin-Center 240, eryph 176; vagrant 11406.
    (
        "service",
        f"ObjectNotFound,{COMMANDS}.GetVMNetworkAdapter",
        "Hyper-V encountered an error trying to access an object on computer 'ROBERTSP4' because the object was not found. The object "
        "might have been deleted, or you might not have permission to perform the task. Verify that the Virtual Machine Management "
        "service on the computer is running. If the service is running, try to perform the task again by using Run as Administrator.",
    ),
    ("service", "", "The Hyper-V Virtual Machine Management Service (VMMS) is not running."),
    # devhome 2955, for-win 65, oneclick-gpu-pv 4.
    (
        "missing",
        "CouldNotAutoLoadModule",
        "The 'Get-VM' command was found in the module 'Hyper-V', but the module could not be loaded. For more information, run "
        "'Import-Module Hyper-V'.",
    ),
    ("missing", "CommandNotFoundException", "Term 'Get-VM' not recognized as a cmdlet, function, executable program."),
    (
        "missing",
        "Modules_ModuleNotFound,Microsoft.PowerShell.Commands.ImportModuleCommand",
        "The specified module 'Hyper-V' was not loaded because no valid module file was found in any module directory.",
    ),
    # Virtualization-Documentation 1432.
    (
        "hypervisor",
        f"Unspecified,{COMMANDS}.StartVM",
        "'minikube' failed to start.\nVirtual machine 'minikube' could not be started because the hypervisor is not running.",
    ),
    # docker.machine 2662, for-win 5347 (its texts are the same in Russian but for the frame), coreos-hyperv 2.
    (
        "disk in use",
        f"Unspecified,{COMMANDS}.StartVM",
        "'DockerDesktopVM' Synthetic SCSI Controller (Instance ID 889E00A3-B0D4-4EA1-9CE0-2AEB85831074): Failed to Power on with Error "
        "'The process cannot access the file because it is being used by another process.' (0x80070020).",
    ),
    (
        "disk in use",
        f"Unspecified,{COMMANDS}.StartVM",
        "'coreos': Failed to open attachment 'E:\\Hyper-V\\coreos.vhd'. Error: 'The requested resource is in use.' (0x800700AA).",
    ),
    # AutomatedLab 266.
    (
        "file system",
        "OperationFailed,Microsoft.Vhd.PowerShell.Cmdlets.NewVhd",
        "Failed to create the virtual hard disk.\nThe system failed to create 'D:\\AutomatedLab-VMs\\BASE.vhdx': The requested operation "
        "could not be completed due to a file system limitation (0x80070299).",
    ),
    # minikube 8970, MultiPass 2867.
    (
        "gone",
        f"InvalidParameter,{COMMANDS}.GetVM",
        'Hyper-V was unable to find a virtual machine with name "minikube".',
    ),
    (
        "gone",
        f"ObjectNotFound,{COMMANDS}.RemoveVM",
        'Hyper-V was unable to find a virtual machine with name "notable-chigger".',
    ),
]
MADE_UP = [
    # Of these no report was found: the codes are Windows' own (winerror.h), in whatever language.
    ("disk full", "OperationFailed,Microsoft.Vhd.PowerShell.Cmdlets.NewVhd", "… (0x80070070)."),
    ("name taken", "OperationFailed,Microsoft.Vhd.PowerShell.Cmdlets.NewVhd", "… (0x80070050)."),
    ("hypervisor", f"Unspecified,{COMMANDS}.StartVM", "… (0xc0351000)"),
    ("rights", "", "… (0x80070005)"),
]


@pytest.mark.parametrize(("name", "identifier", "message"), REPORTED + MADE_UP)
def test_an_error_of_windows_is_known(name: str, identifier: str, message: str) -> None:
    found = trouble.find(ScriptError(message, identifier))
    assert found is not None and found.name == name


def test_every_trouble_has_been_looked_at() -> None:
    assert {one.name for one in trouble.TROUBLES} == {name for name, _, _ in REPORTED + MADE_UP}


def test_the_code_of_the_exception_counts_too() -> None:
    found = trouble.find(ScriptError("in no language", "Unspecified", code="0x80070020"))
    assert found is not None and found.name == "disk in use"


def test_what_is_told_is_what_happened_and_the_way_out() -> None:
    error = trouble.explained(ScriptError("Not enough\nmemory (0x8007000E).", "OutOfMemory,X"), "start the VM")
    assert type(error) is DriverError
    assert str(error) == "Hyper-V could not start the VM: the computer has no memory left for the machine"
    assert "cove machine config set" in error.hint
    assert error.hint.endswith("Hyper-V said: Not enough memory (0x8007000E).")


def test_an_unknown_error_is_told_in_its_own_words() -> None:
    error = trouble.explained(ScriptError("Something\n else", "Other"), "start the VM")
    assert str(error) == "Hyper-V could not start the VM: Something else"


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"module": False}, "Enable-WindowsOptionalFeature"),
        ({"service": "Missing"}, "Enable-WindowsOptionalFeature"),
        ({"hypervisor": False}, "firmware"),
        ({"service": "Stopped"}, "Start-Service vmms"),
        ({"may": False}, "S-1-5-32-578"),
        ({"registered": False}, f'{scripts.SERVICES.replace(":", "", 1)}\\{HYPERV_SERVICE}"'),
    ],
)
def test_what_is_wrong_with_a_computer(change: dict[str, Any], hint: str) -> None:
    wrong = trouble.of_host({**GOOD, **change})
    assert isinstance(wrong, HypervisorMissing) and hint in wrong.hint


def test_nothing_is_wrong_with_a_computer() -> None:
    assert trouble.of_host(GOOD) is None


def test_what_is_to_be_registered_is_what_is_looked_for() -> None:
    key = trouble.REGISTER.partition('"HKLM')[2].partition('"')[0]
    place = scripts.host().partition("'HKLM:")[2].partition("'")[0]
    assert key == rf"{place}\{HYPERV_SERVICE}" and "''" not in place
    assert key in Path(__file__).parents[4].joinpath("docs/hyper-v.md").read_text("utf-8")
