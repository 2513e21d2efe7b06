"""What the saved state of a VM fits to: a template, and a suspended machine, are loaded by no other QEMU than one of the same kind."""

from __future__ import annotations

import hashlib
import platform
import sys
from dataclasses import replace
from pathlib import Path

from cove.drivers.base import VmSpec
from cove.drivers.qemu import command
from cove.drivers.qemu.channels import Ends

NOWHERE = Ends(dict.fromkeys((command.QMP, command.LINK, command.SEED, command.STREAMS), "fd=0"))


def of(spec: VmSpec, program: Path, version: str, sandbox: bool) -> str | None:
    """As hexadecimal digits; None where no states are saved. Raises `OSError`.

    What neither the guest nor QEMU's state knows of is not in it: names and paths, and the address for vsock, which the guest asks for
    anew. The image's digest is in the kernel's command line.
    """
    if sys.platform != "linux":
        return None  # QEMU before 8.2 takes the file as a descriptor only, and of saving under HVF and WHPX nothing is known
    spec = replace(
        spec, name="", kernel=Path(), initramfs=Path(), system=Path(), folders=(), vsock_cid=min(spec.vsock_cid, 1)
    )
    words = command.build(Path(), spec, command.Endpoints(Path(), NOWHERE, Path(), Path()), sandbox)
    info = program.resolve().stat()
    parts = [version, str(info.st_size), str(info.st_mtime_ns), *words]
    if spec.accelerator.name != "tcg":  # the guest has the host's processor
        cpu = Path("/proc/cpuinfo").read_text("ascii", "replace").partition("\n\n")[0]
        parts += sorted(line for line in cpu.splitlines() if line.startswith(("model name", "flags", "microcode")))
        parts.append(platform.release())  # and of that what the host's kernel lets it have
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
