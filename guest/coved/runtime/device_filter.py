"""The cgroup's device rules as an eBPF program (BPF_PROG_TYPE_CGROUP_DEVICE): cgroup v2 has no file for them.

Without it a container with CAP_MKNOD, which docker's default has, could make the node of the host's disk and read it.
See bpf(2) and the kernel's uapi/linux/bpf.h, struct bpf_cgroup_dev_ctx: ``{u32 access_type; u32 major; u32 minor}``
with access_type ``(access << 16) | device``.
"""

import ctypes
import os
import struct
from typing import TYPE_CHECKING

from coved.runtime import syscalls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coved.runtime.spec import DeviceRule

_PROG_LOAD, _PROG_ATTACH = 5, 8
_CGROUP_DEVICE_PROGRAM, _CGROUP_DEVICE_ATTACH = 15, 6
_ALLOW_MULTI = 2
_DEVICE = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}

# Registers: r1 context, r2 device type, r3 access, r4 major, r5 minor, r0 verdict.
_instruction = struct.Struct("<BBhi").pack
_LOAD_WORD = 0x61
_MOVE_IMMEDIATE, _MOVE_REGISTER = 0xB7, 0xBF
_AND_IMMEDIATE_32, _SHIFT_RIGHT_32 = 0x54, 0x74
# Of 32 bits (BPF_JMP32): an immediate is signed, and would be extended to 64.
_JUMP_EQUAL_IMMEDIATE, _JUMP_NOT_EQUAL_IMMEDIATE, _JUMP_NOT_EQUAL_REGISTER = 0x16, 0x56, 0x5E
_EXIT = 0x95

# What every container may use, whatever its rules: the default devices, its terminals, and the making of nodes (which
# gives no access). The OCI runtimes agree on this list.
DEFAULT_RULES: "tuple[DeviceRule, ...]" = (
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},  # null
    {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rwm"},  # zero
    {"allow": True, "type": "c", "major": 1, "minor": 7, "access": "rwm"},  # full
    {"allow": True, "type": "c", "major": 1, "minor": 8, "access": "rwm"},  # random
    {"allow": True, "type": "c", "major": 1, "minor": 9, "access": "rwm"},  # urandom
    {"allow": True, "type": "c", "major": 5, "minor": 0, "access": "rwm"},  # tty
    {"allow": True, "type": "c", "major": 5, "minor": 2, "access": "rwm"},  # ptmx
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
)

USUAL_RULES: "tuple[DeviceRule, ...]" = ({"allow": False, "access": "rwm"},)
"""Of a container that asks for no devices. Their program is loaded once, for all shims that are forked from then on."""
_usual = -1


def compile_rules(rules: "Sequence[DeviceRule]") -> bytes:
    """The last rule that matches decides, so they are tried from the end; with no match access is denied."""
    program = [
        _instruction(_LOAD_WORD, 1 << 4 | 2, 0, 0),
        _instruction(_AND_IMMEDIATE_32, 2, 0, 0xFFFF),
        _instruction(_LOAD_WORD, 1 << 4 | 3, 0, 0),
        _instruction(_SHIFT_RIGHT_32, 3, 0, 16),
        _instruction(_LOAD_WORD, 1 << 4 | 4, 4, 0),
        _instruction(_LOAD_WORD, 1 << 4 | 5, 8, 0),
    ]
    for rule in reversed(rules):
        instructions = _compile_rule(rule)
        program += instructions
        if len(instructions) == 2:  # matches everything: the verifier refuses code that cannot be reached
            return b"".join(program)
    program += [_instruction(_MOVE_IMMEDIATE, 0, 0, 0), _instruction(_EXIT, 0, 0, 0)]
    return b"".join(program)


def _compile_rule(rule: "DeviceRule") -> list[bytes]:
    """Tests that jump over the verdict when they fail; a jump's offset counts the instructions after it."""
    tests: list[tuple[list[bytes], int, int, int]] = []  # instructions before, opcode, registers, immediate
    kind = rule.get("type", "a")
    if kind != "a":
        tests.append(([], _JUMP_NOT_EQUAL_IMMEDIATE, 2, _DEVICE[kind]))
    wanted = 0
    for letter in rule.get("access") or "rwm":
        wanted |= _ACCESS[letter]
    if wanted != 7:
        # A permission must cover all of the access: (access & rule) == access; a denial strikes at any part of it.
        before = [
            _instruction(_MOVE_REGISTER, 3 << 4 | 1, 0, 0),
            _instruction(_AND_IMMEDIATE_32, 1, 0, wanted),
        ]
        if rule["allow"]:
            tests.append((before, _JUMP_NOT_EQUAL_REGISTER, 3 << 4 | 1, 0))
        else:
            tests.append((before, _JUMP_EQUAL_IMMEDIATE, 1, 0))
    for register, number in ((4, rule.get("major", -1)), (5, rule.get("minor", -1))):
        if number is not None and number >= 0:
            if number > 0xFFFFFFFF:
                raise ValueError(f"device number {number} is too large")
            tests.append(([], _JUMP_NOT_EQUAL_IMMEDIATE, register, ctypes.c_int32(number).value))
    result: list[bytes] = [_instruction(_MOVE_IMMEDIATE, 0, 0, int(rule["allow"])), _instruction(_EXIT, 0, 0, 0)]
    for before, opcode, registers, immediate in reversed(tests):
        result = [*before, _instruction(opcode, registers, len(result), immediate), *result]
    return result


class _LoadAttributes(ctypes.Structure):
    _fields_ = [
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
        ("kern_version", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
    ]


class _AttachAttributes(ctypes.Structure):
    _fields_ = [
        ("target_fd", ctypes.c_uint32),
        ("attach_bpf_fd", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
    ]


def load(program: bytes) -> int:
    """A descriptor of the loaded program; the kernel verifies it."""
    instructions = ctypes.create_string_buffer(program, len(program))
    license_text = ctypes.create_string_buffer(b"MIT")
    attributes = _LoadAttributes(
        prog_type=_CGROUP_DEVICE_PROGRAM,
        insn_cnt=len(program) // 8,
        insns=ctypes.addressof(instructions),
        license=ctypes.addressof(license_text),
    )
    fd = syscalls.bpf(_PROG_LOAD, attributes)
    os.set_inheritable(fd, False)
    return fd


def attach(program_fd: int, cgroup_fd: int) -> None:
    """From now on the rules hold for all that is in the cgroup; they end with it."""
    attributes = _AttachAttributes(cgroup_fd, program_fd, _CGROUP_DEVICE_ATTACH, _ALLOW_MULTI)
    syscalls.bpf(_PROG_ATTACH, attributes)


def preload() -> None:
    """The usual program, which then need not be verified for each container. Raises OSError."""
    global _usual
    _usual = load(compile_rules((*USUAL_RULES, *DEFAULT_RULES)))


def restrict(cgroup_fd: int, rules: "Sequence[DeviceRule]") -> None:
    """Attach the program of these rules and the default ones."""
    if _usual >= 0 and tuple(rules) == USUAL_RULES:
        attach(_usual, cgroup_fd)
        return
    program_fd = load(compile_rules((*rules, *DEFAULT_RULES)))
    try:
        attach(program_fd, cgroup_fd)
    finally:
        os.close(program_fd)
