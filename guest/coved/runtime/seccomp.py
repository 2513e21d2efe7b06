"""Compile an OCI seccomp profile into the kernel's BPF, with libseccomp. seccomp(2), OCI config-linux.md "Seccomp".

Only the spawner does this, once per distinct profile; containers install the finished program.
"""

import ctypes
import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coved.runtime.spec import Seccomp, SeccompArg

_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_OPERATORS = {
    name: number
    for number, name in enumerate(
        (
            *("SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ"),
            *("SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"),
        ),
        start=1,
    )
}
_CTL_OPTIMIZE = 8  # SCMP_FLTATR_CTL_OPTIMIZE, 2: a binary tree, so that a call is judged in few steps
_CTL_NNP = 3  # SCMP_FLTATR_CTL_NNP


class _Comparison(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


class SeccompError(Exception):
    """The profile cannot be compiled."""


def _library() -> ctypes.PyDLL:
    try:
        library = ctypes.PyDLL("libseccomp.so.2", use_errno=True)
    except OSError as error:
        raise SeccompError(f"libseccomp cannot be loaded: {error}") from None
    library.seccomp_init.restype = ctypes.c_void_p
    return library


def _action(name: str, value: int | None) -> int:
    if name == "SCMP_ACT_ERRNO":
        return 0x00050000 | (errno.EPERM if value is None else value) & 0xFFFF
    if name == "SCMP_ACT_TRACE":
        return 0x7FF00000 | (errno.EPERM if value is None else value) & 0xFFFF
    try:
        return _ACTIONS[name]
    except KeyError:
        raise SeccompError(f"seccomp action '{name}' is not supported") from None


def _comparisons(arguments: "list[SeccompArg]") -> list[list[_Comparison]]:
    """Conditions of each rule. Conditions on one argument that repeat are alternatives, as runc and libpod have it."""
    compiled = []
    for argument in arguments:
        operator = _OPERATORS.get(argument["op"])
        if operator is None or not 0 <= argument["index"] <= 5:
            raise SeccompError(f"seccomp condition {argument} is not supported")
        compiled.append(_Comparison(argument["index"], operator, argument["value"], argument.get("valueTwo", 0)))
    indexes = [one["index"] for one in arguments]
    if len(set(indexes)) == len(indexes):
        return [compiled]
    return [[one] for one in compiled]


def compile_profile(profile: "Seccomp") -> bytes:
    """The BPF program, 8 bytes an instruction. System calls that this libseccomp does not know are left out."""
    library = _library()
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    raw = library.seccomp_init(ctypes.c_uint32(default))
    if not raw:
        raise SeccompError("libseccomp refuses the default action")
    context = ctypes.c_void_p(raw)
    try:
        library.seccomp_attr_set(context, ctypes.c_int(_CTL_OPTIMIZE), ctypes.c_uint32(2))
        library.seccomp_attr_set(context, ctypes.c_int(_CTL_NNP), ctypes.c_uint32(0))
        _add_architectures(library, context, profile.get("architectures", []))
        for rule in profile.get("syscalls", []):
            action = _action(rule["action"], rule.get("errnoRet"))
            if action == default:
                continue  # libseccomp refuses rules that say what happens anyway
            alternatives = _comparisons(rule.get("args", []))
            for name in rule["names"]:
                number = library.seccomp_syscall_resolve_name(name.encode())
                if number == -1:  # __NR_SCMP_ERROR
                    continue
                for conditions in alternatives:
                    array = (_Comparison * max(1, len(conditions)))(*conditions)
                    result = library.seccomp_rule_add_array(
                        context, ctypes.c_uint32(action), ctypes.c_int(number), ctypes.c_uint(len(conditions)), array
                    )
                    if result < 0 and result not in (-errno.EEXIST, -errno.EDOM):
                        raise SeccompError(f"libseccomp refuses the rule for {name}: {os.strerror(-result)}")
        return _export(library, context)
    finally:
        library.seccomp_release(context)


def _add_architectures(library: ctypes.PyDLL, context: ctypes.c_void_p, names: list[str]) -> None:
    """Only those that this machine's kernel can run matter; the native one is there from the start."""
    families = {
        "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
        "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    }
    for name in names:
        if name not in families.get(os.uname().machine, ()):
            continue
        token = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
        if token == 0:
            raise SeccompError(f"libseccomp does not know the architecture '{name}'")
        result = library.seccomp_arch_add(context, ctypes.c_uint32(token))
        if result < 0 and result != -errno.EEXIST:
            raise SeccompError(f"libseccomp refuses the architecture '{name}': {os.strerror(-result)}")


def _export(library: ctypes.PyDLL, context: ctypes.c_void_p) -> bytes:
    fd = os.memfd_create("seccomp")
    try:
        result = library.seccomp_export_bpf(context, ctypes.c_int(fd))
        if result < 0:
            raise SeccompError(f"libseccomp cannot export the profile: {os.strerror(-result)}")
        size = os.lseek(fd, 0, os.SEEK_END)
        return os.pread(fd, size, 0)
    finally:
        os.close(fd)
