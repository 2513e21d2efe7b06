"""Programs of other processors: Debian's busybox for them, and the smallest that can tell something."""

from __future__ import annotations

import io
import struct
import tarfile
from dataclasses import dataclass

_EXECUTABLE, _LOADED, _READ_EXECUTE = 2, 1, 5


@dataclass(frozen=True)
class Processor:
    """In ELF's terms; `euid` is code that ends with the effective user's id as its status."""

    bits: int
    order: str
    machine: int
    euid: bytes = b""
    flags: int = 0


def _words(*each: int) -> bytes:
    return struct.pack(f"<{len(each)}I", *each)


PROCESSORS = {
    "linux/386": Processor(32, "<", 3, bytes.fromhex("b8c9000000cd80 89c3 b801000000cd80")),
    "linux/arm64": Processor(64, "<", 183, _words(0xD28015E8, 0xD4000001, 0xD2800BA8, 0xD4000001)),
    "linux/arm/v7": Processor(32, "<", 40, _words(0xE3A070C9, 0xEF000000, 0xE3A07001, 0xEF000000), 0x05000000),
    "linux/riscv64": Processor(64, "<", 243, _words(0x0AF00893, 0x73, 0x05D00893, 0x73)),
    "linux/s390x": Processor(64, ">", 22),
}


def program(processor: Processor) -> bytes:
    """An ELF file of one segment (elf(5))."""
    base, order, wide = 0x400000, processor.order, processor.bits == 64
    header, segment = (64, 56) if wide else (52, 32)
    start, size = base + header + segment, header + segment + len(processor.euid)
    identity = b"\x7fELF" + bytes((2 if wide else 1, 1 if order == "<" else 2, 1)) + bytes(9)
    word = "Q" if wide else "I"
    elf = struct.pack(
        f"{order}16sHHI{word}{word}{word}IHHHHHH", identity, _EXECUTABLE, processor.machine, 1, start, header, 0,
        processor.flags, header, segment, 1, 0, 0, 0,
    )  # fmt: skip
    if wide:
        load = struct.pack(f"{order}IIQQQQQQ", _LOADED, _READ_EXECUTE, 0, base, base, size, size, 0x1000)
    else:
        load = struct.pack(f"{order}IIIIIIII", _LOADED, 0, base, base, size, size, _READ_EXECUTE, 0x1000)
    return elf + load + processor.euid


def root(files: dict[str, tuple[int, bytes]], links: dict[str, str] | None = None) -> bytes:
    """A root file system as `docker import` takes it: each file's permissions and content by its path."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for path in sorted({path.rpartition("/")[0] for path in files} - {""}):
            member = tarfile.TarInfo(path)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for path, (mode, data) in files.items():
            member = tarfile.TarInfo(path)
            member.mode, member.size = mode, len(data)
            tar.addfile(member, io.BytesIO(data))
        for path, target in (links or {}).items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return output.getvalue()
