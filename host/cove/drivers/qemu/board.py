"""What QEMU's command line has to say of a machine's processors and of the board they sit on."""

from __future__ import annotations

from dataclasses import dataclass

from cove.machine.architecture import ARM64, Architecture


@dataclass(frozen=True, slots=True)
class Board:
    """One of QEMU's machine types, by its own words."""

    program: str
    machine: str
    """Of -machine, with its options."""
    emulated_cpu: str
    """Of -cpu, where no accelerator gives the guest the host's."""
    console: str
    """The kernel's name of the first serial port."""


_Q35 = Board("qemu-system-x86_64", "q35,smm=off,vmport=off", "max", "ttyS0")
# Pointer authentication by the architecture's own cipher takes half of the time when it is emulated.
_VIRT = Board("qemu-system-aarch64", "virt,gic-version=max", "max,pauth-impdef=on", "ttyAMA0")


def of(architecture: Architecture) -> Board:
    return _VIRT if architecture == ARM64 else _Q35
