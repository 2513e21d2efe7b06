"""What is done to Hyper-V, as scripts. Cmdlets are called with their module's name: VMware's has a Get-VM as well.

A VM is known by its identifier, for Hyper-V lets two have the same name. All scripts can be run again.
"""

from __future__ import annotations

from coved.streams.knock import HYPERV_SERVICE

from cove.drivers.hyperv.powershell import Script

DEFAULT_SWITCH = "c08cb7b8-9b3c-408e-8e30-5e16a3aeb444"
"""Windows' own: it has this identifier on every computer, and names in several languages."""

SERVICES = "HKLM:\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\Virtualization\\GuestCommunicationServices"

HOST = Script("""
$vmms = Get-Service -Name vmms -ErrorAction SilentlyContinue
$module = Get-Module -ListAvailable -Name Hyper-V | Select-Object -First 1
$groups = @([Security.Principal.WindowsIdentity]::GetCurrent().Groups | ForEach-Object { $_.Value })
@{ version = [string][Environment]::OSVersion.Version; module = [bool]$module
   service = [string]$(if ($vmms) { $vmms.Status } else { 'Missing' })
   hypervisor = [bool](Get-CimInstance -ClassName Win32_ComputerSystem).HypervisorPresent
   may = ($groups -contains 'S-1-5-32-578') -or ([Security.Principal.WindowsPrincipal]::new(
     [Security.Principal.WindowsIdentity]::GetCurrent())).IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)
   registered = Test-Path -LiteralPath (Join-Path <services> <service>) }
""")
"""What there is; needs no rights. S-1-5-32-578 is the group "Hyper-V Administrators" in every language. No process of the host reaches
a guest's port of vsock that is not `registered`."""

SWITCHES = Script("""
@(Hyper-V\\Get-VMSwitch | Where-Object { $_.Id -eq [Guid]<id> } | ForEach-Object { $_.Name })
""")

FIND = Script("""
$vms = @(Hyper-V\\Get-VM | Where-Object { $_.Name -eq <name> })
@($vms | ForEach-Object { @{ id = [string]$_.Id; notes = [string]$_.Notes } })
""")

CREATE = Script("""
$vm = Hyper-V\\New-VM -Name <name> -Generation 2 -NoVHD -MemoryStartupBytes <memory> -Path <folder>
try {
  $kept = @{ VM = $vm; Notes = <notes>; StaticMemory = $true; CheckpointType = 'Disabled'; AutomaticCheckpointsEnabled = $false
    AutomaticStartAction = 'Nothing'; AutomaticStopAction = 'ShutDown' }
  Hyper-V\\Set-VM @kept
  Hyper-V\\Set-VMFirmware -VM $vm -EnableSecureBoot Off
  Hyper-V\\Set-VMComPort -VM $vm -Number 1 -Path <console>
} catch { Hyper-V\\Remove-VM -VM $vm -Force; throw }
[string]$vm.Id
""")
"""No checkpoints: a disk that is put back under an engine that has gone on would lose what it has promised."""

CREATE_DISK = Script("""
if (-not (Test-Path -LiteralPath <disk>)) {
  [void](Hyper-V\\New-VHD -Path <disk> -Dynamic -SizeBytes <size> -BlockSizeBytes 1MB)
}
""")
"""1 MiB: ext4 spreads over a disk, and each block that it touches is allocated."""

EQUIP = Script("""
$vm = Hyper-V\\Get-VM -Id <id>
if ($vm.State -eq 'Saved') { Hyper-V\\Remove-VMSavedState -VM $vm }
if ((Hyper-V\\Get-VHD -Path <data>).Size -lt <size>) { Hyper-V\\Resize-VHD -Path <data> -SizeBytes <size> }
Hyper-V\\Set-VMProcessor -VM $vm -Count <cpus>
Hyper-V\\Set-VMMemory -VM $vm -DynamicMemoryEnabled $false -StartupBytes <memory>
Hyper-V\\Get-VMHardDiskDrive -VM $vm | Hyper-V\\Remove-VMHardDiskDrive
if (Test-Path -LiteralPath <system>) { Remove-Item -LiteralPath <system> -Force }
[void](Hyper-V\\New-VHD -Path <system> -ParentPath <boot_disk> -Differencing)
$place = @{ VM = $vm; ControllerType = 'SCSI'; ControllerNumber = 0 }
Hyper-V\\Add-VMHardDiskDrive @place -ControllerLocation 0 -Path <system>
Hyper-V\\Add-VMHardDiskDrive @place -ControllerLocation 1 -Path <data>
Hyper-V\\Add-VMHardDiskDrive @place -ControllerLocation 2 -Path <seed>
Hyper-V\\Set-VMFirmware -VM $vm -FirstBootDevice (Hyper-V\\Get-VMHardDiskDrive @place -ControllerLocation 0)
Hyper-V\\Get-VMNetworkAdapter -VM $vm | Hyper-V\\Connect-VMNetworkAdapter -SwitchName <switch>
""")
"""All in one, for each script takes the seconds in which the module is loaded. A saved state is thrown away, for the machine is to boot;
the data disk is never made smaller. The system's disk is a difference to the image's, made anew for each start: machines share the
image, and none changes it."""

START = Script("""
Hyper-V\\Start-VM -VM (Hyper-V\\Get-VM -Id <id>)
""")
"""Goes on where it was, when it has been saved."""

LOOK = Script("""
$vm = Hyper-V\\Get-VM -Id <id>
$class = @{ Namespace = 'root/virtualization/v2'; ClassName = 'Msvm_ComputerSystem' }
$worker = Get-CimInstance @class -Filter ("Name='" + <id> + "'") | Select-Object -First 1
@{ state = [string]$vm.State; pid = [int]$(if ($worker) { $worker.ProcessID } else { 0 }) }
""")

SHUT_DOWN = Script("""
Hyper-V\\Stop-VM -VM (Hyper-V\\Get-VM -Id <id>) -Force -Confirm:$false
""")
"""Asks the guest, by its integration services, and waits for it. -Force: without it a session that is locked is a question."""

TURN_OFF = Script("""
$vm = Hyper-V\\Get-VM -Id <id>
if ($vm.State -ne 'Off' -and $vm.State -ne 'Saved') { Hyper-V\\Stop-VM -VM $vm -TurnOff -Force -Confirm:$false }
""")

END_WORKER = Script("""
Stop-Process -Id <pid> -Force
""")

SAVE = Script("""
Hyper-V\\Save-VM -VM (Hyper-V\\Get-VM -Id <id>)
""")

CONTINUE = Script("""
Hyper-V\\Resume-VM -VM (Hyper-V\\Get-VM -Id <id>)
""")
"""Of a VM that stands still, for want of room on its disk among others."""

REMOVE = Script("""
$vm = Hyper-V\\Get-VM | Where-Object { $_.Id -eq [Guid]<id> }
if ($vm) {
  if ($vm.State -eq 'Saved') { Hyper-V\\Remove-VMSavedState -VM $vm }
  elseif ($vm.State -ne 'Off') { Hyper-V\\Stop-VM -VM $vm -TurnOff -Force -Confirm:$false }
  Hyper-V\\Remove-VM -VM $vm -Force -Confirm:$false
}
foreach ($path in <paths>) { if (Test-Path -LiteralPath $path) { Remove-Item -LiteralPath $path -Recurse -Force } }
""")
"""Remove-VM leaves the disks, and the folder of what it knew of the VM."""


def host() -> str:
    return HOST(services=SERVICES, service=HYPERV_SERVICE)
