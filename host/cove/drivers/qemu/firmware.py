"""Firmware of some instructions, which ends QEMU in a way that nothing else does: the proof that an accelerator runs them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cove.machine.architecture import ARM64, Architecture

_EXIT_VALUE = 0x31
_EXIT_STATUS = _EXIT_VALUE << 1 | 1  # isa-debug-exit ends QEMU with (value << 1) | 1
_EXIT_PORT = 0x501


@dataclass(frozen=True, slots=True)
class Firmware:
    """What to give to QEMU (-bios), what else it needs for it, and the exit status that proves that it ran."""

    content: bytes
    machine: str
    arguments: tuple[str, ...]
    status: int


def of(architecture: Architecture) -> Firmware:
    if architecture == ARM64:
        return Firmware(_arm64(), "virt", ("-cpu", "max"), 0)  # the default one has 32 bits
    return Firmware(_amd64(), "q35", ("-device", f"isa-debug-exit,iobase={_EXIT_PORT:#x},iosize=1"), _EXIT_STATUS)


def _arm64() -> bytes:
    """Counts, and switches the machine off (Arm DEN0022, PSCI, SYSTEM_OFF), which ends QEMU with status 0."""
    return struct.pack(
        "<8I",
        0xD290D401, 0xF2A00021,  # movz x1, #0x86a0; movk x1, #1, lsl #16
        0xF1000421, 0x54FFFFE1,  # subs x1, x1, #1; b.ne to the subs
        0xD2800100, 0xF2B08000,  # movz x0, #8; movk x0, #0x8400, lsl #16
        0xD4000002, 0x14000000,  # hvc #0; b to itself
    )  # fmt: skip


def _amd64() -> bytes:
    """64 KiB of ROM that goes from the reset vector to 32-bit protected mode, counts, writes to the debug-exit port and halts.

    Protected mode is what makes it a proof: real mode may be emulated by the hypervisor's own interpreter, on processors that
    then run nothing else (seen in nested clouds). The ROM ends at 4 GiB, so an offset in it is an address below 0x10000.
    """
    rom = bytearray(b"\xf4" * 65536)
    base, gdt, pointer, start, protected = 0xFFFF0000, 0xFE00, 0xFE20, 0xFF00, 0xFF40
    # Null, code and data descriptors, both flat; "accessed" is set, for the processor cannot write to a ROM.
    rom[gdt : gdt + 24] = bytes(8) + bytes.fromhex("ffff0000009bcf00") + bytes.fromhex("ffff00000093cf00")
    rom[pointer : pointer + 6] = (23).to_bytes(2, "little") + (base + gdt).to_bytes(4, "little")
    real_mode = (
        bytes([0xFA])  # cli
        + bytes([0x2E, 0x66, 0x0F, 0x01, 0x16]) + pointer.to_bytes(2, "little")  # lgdt cs:[pointer]
        + bytes([0x0F, 0x20, 0xC0, 0x66, 0x83, 0xC8, 0x01, 0x0F, 0x22, 0xC0])  # mov eax, cr0; or eax, 1; mov cr0, eax
        + bytes([0x66, 0xEA]) + (base + protected).to_bytes(4, "little") + bytes([0x08, 0x00])  # jmp 8:protected
    )  # fmt: skip
    protected_mode = (
        bytes([0x66, 0xB8, 0x10, 0x00, 0x8E, 0xD8, 0x8E, 0xC0, 0x8E, 0xD0])  # mov ax, 16; mov ds, es, ss, ax
        + bytes([0xB9]) + (100_000).to_bytes(4, "little") + bytes([0xE2, 0xFE])  # mov ecx, 100000; loop $
        + bytes([0xB0, _EXIT_VALUE, 0x66, 0xBA]) + _EXIT_PORT.to_bytes(2, "little")  # mov al, value; mov dx, port
        + bytes([0xEE, 0xF4, 0xEB, 0xFD])  # out dx, al; hlt; jmp to the hlt
    )  # fmt: skip
    rom[start : start + len(real_mode)] = real_mode
    rom[protected : protected + len(protected_mode)] = protected_mode
    rom[0xFFF0:0xFFF3] = b"\xe9" + (start - 0xFFF3).to_bytes(2, "little", signed=True)  # jmp start
    return bytes(rom)
