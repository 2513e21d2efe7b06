"""Which accelerator really runs guest code here.

That a device opens proves nothing: some nested clouds offer a /dev/kvm that makes VMs and virtual processors and then never
runs them, or interprets some instructions and stops at others. So QEMU is started with a firmware of some instructions that
ends it (`firmware`); the exit status proves that they ran. An accelerator other than software emulation must then
boot the machine's own kernel as far as its panic for want of a root file system, which ends QEMU. The answer is remembered
until the host boots again, or QEMU, the device or the user changes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cove.drivers.base import Accelerator
from cove.drivers.qemu import binary, board, firmware, lastwords
from cove.drivers.qemu.firmware import Firmware
from cove.drivers.qemu.words import cpu
from cove.errors import DriverError, HypervisorMissing
from cove.machine.architecture import AMD64, Architecture, here
from cove.machine.files import write_whole
from cove.machine.paths import cache_dir

BOUND_S = 2.0
"""Seconds that an accelerator has to run the firmware; one that works takes a tenth of it."""
KERNEL_BOUND_S = 4.0
"""Seconds that an accelerator has to boot the kernel to its panic; one that works takes a quarter of it."""
TCG_BOUND_S = 15.0
"""Software emulation has no alternative, so a busy computer gets time."""

MAX_SAID = 1 << 16
"""Bytes of what QEMU says that are looked at."""

KVM_DEVICE = Path("/dev/kvm")
WHPX_LIBRARY = Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "WinHvPlatform.dll")
WHPX_FEATURE = "dism /online /enable-feature /featurename:HypervisorPlatform"
NO_WINDOW = 0
if sys.platform == "win32":
    NO_WINDOW = subprocess.CREATE_NO_WINDOW
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

WHPX = ["whpx,kernel-irqchip=off", "whpx"]
"""Of amd64. With interrupts of the hypervisor's own, QEMU before 11 loses those of virtio devices ("injection failed, MSI lost"), which no
trial here has; a QEMU that no longer knows the option is tried without. On arm64 nothing boots with it (microsoft/quicksand#34)."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The result: the accelerator, why not a better one, whether this QEMU has its seccomp sandbox, and its version, if it told."""

    accelerator: str
    reason: str
    sandbox: bool
    version: str = ""


def candidates(wanted: str, architecture: Architecture) -> list[str]:
    """Accelerators to try, best first."""
    whpx = WHPX if architecture == AMD64 else ["whpx"]
    if wanted != "auto":
        return whpx if wanted == "whpx" else [wanted]
    if architecture != here():
        return ["tcg"]  # processors are accelerated only for their own kind
    native = {"linux": ["kvm"], "darwin": ["hvf"], "win32": whpx}.get(sys.platform, [])
    return [*native, "tcg"]


def choose(program: Path, architecture: Architecture, kernel: Path, wanted: str = "auto") -> tuple[Accelerator, Probe]:
    """The accelerator to use, from memory when nothing changed. Blocks for a few seconds at most.

    Raises `DriverError` when none runs guest code, or the one that the settings demand does not.
    """
    key = _key(program, architecture, wanted)
    cache = cache_dir() / "accelerator.json"
    probe = _remembered(cache, key)
    if probe is None:
        probe = run(program, architecture, candidates(wanted, architecture), kernel)
        with contextlib.suppress(HypervisorMissing):  # whoever needs it asks again
            probe = replace(probe, version=binary.version(program))
        _remember(cache, key, probe)
    return Accelerator(probe.accelerator, probe.reason), probe


def run(
    program: Path,
    architecture: Architecture,
    names: Sequence[str],
    kernel: Path | None = None,
    bound_s: float = BOUND_S,
) -> Probe:
    """Try the accelerators side by side and take the first, in the order given, that runs guest code.

    With a `kernel`, accelerators that use the processor's own virtualisation have to boot it as well.
    """
    sandbox, tried = sys.platform == "linux", firmware.of(architecture)
    with tempfile.TemporaryDirectory(prefix="cove-probe-") as folder, contextlib.ExitStack() as stack:
        rom = Path(folder) / "probe.rom"
        rom.write_bytes(tried.content)
        reasons: list[str] = []
        trials: list[tuple[str, _Trial]] = []
        for name in names:
            if reason := unusable(name):
                reasons.append(reason)
            else:
                trials.append((name, stack.enter_context(_Trial(program, tried, name, rom, sandbox))))
        for name, trial in trials:
            reason = trial.verdict(TCG_BOUND_S if name == "tcg" else bound_s)
            if sandbox and "-sandbox" in reason:
                sandbox = False
                reason = stack.enter_context(_Trial(program, tried, name, rom, False)).verdict(TCG_BOUND_S)
            if not reason and kernel is not None and name != "tcg":
                processor = cpu(name, board.of(architecture).emulated_cpu)
                with _Trial(program, tried, name, rom, sandbox, kernel, processor) as boot:
                    reason = boot.verdict(KERNEL_BOUND_S)
            if not reason:
                return Probe(name, "; ".join(dict.fromkeys(reasons)), sandbox)
            reasons.append(reason)
    raise DriverError(
        f"no accelerator runs guest code here: {'; '.join(dict.fromkeys(reasons))}",
        "set accelerator to auto (cove machine config set [-m MACHINE] accelerator auto), or reinstall QEMU"
        if "tcg" not in names
        else f"see whether {program} works at all",
    )


def unusable(name: str) -> str:
    """Why an accelerator need not even be tried, empty when it is to be tried."""
    if name == "kvm":
        if not KVM_DEVICE.exists():
            return f"{KVM_DEVICE} is absent"
        if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
            return f"permission denied on {KVM_DEVICE}: add yourself to its group (sudo usermod -aG kvm $USER)"
    if name.startswith("whpx") and sys.platform == "win32" and not WHPX_LIBRARY.exists():
        return f"Windows Hypervisor Platform is off: turn it on as administrator, then restart Windows: {WHPX_FEATURE}"
    return ""


class _Trial:
    """One QEMU that runs the firmware, or a kernel; killed at the end of the block."""

    def __init__(
        self, program: Path, tried: Firmware, accelerator: str, rom: Path, sandbox: bool, kernel: Path | None = None,
        processor: str = "",
    ) -> None:  # fmt: skip
        self._program = program
        self._ends_with = tried.status if kernel is None else 0
        self._accelerator = accelerator
        self._kernel = kernel
        command: list[str | Path] = [program, "-accel", accelerator, "-machine", tried.machine]
        if (folder := binary.data_folder(program)) is not None:
            command += ["-L", folder]
        command += ["-nodefaults", "-no-user-config", "-display", "none"]
        if kernel is None:
            command += ["-m", "64", "-bios", rom, *tried.arguments]
        else:
            # Without a root file system the kernel panics, resets, and so ends QEMU with status 0.
            command += ["-m", "256", "-cpu", processor, "-no-reboot", "-kernel", kernel, "-append", "quiet panic=-1"]
        if sandbox:
            command += ["-sandbox", SANDBOX]
        # A file, for a pipe's end comes only when whatever QEMU has started has ended too.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        self._started = time.monotonic()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                creationflags=NO_WINDOW,
            )
        except OSError as error:
            self._said.close()
            raise DriverError(f"{program} cannot be run: {error.strerror}") from error

    def __enter__(self) -> _Trial:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        # A virtual processor stuck in the host's kernel may not die at once; it is not waited for beyond a moment.
        _has_ended(self._process, 2)
        self._said.close()

    def verdict(self, bound_s: float) -> str:
        """Empty when guest code ran, else what happened instead."""
        if not _has_ended(self._process, max(0.1, self._started + bound_s - time.monotonic())):
            what = str(KVM_DEVICE) if self._accelerator == "kvm" else self._accelerator
            done = "ran no guest code" if self._kernel is None else "did not boot the kernel"
            return f"{what} is there but {done} within {bound_s:.0f} s"
        if self._process.returncode == self._ends_with:
            return ""
        self._said.seek(0)
        lines = lastwords.telling(self._said.read(MAX_SAID).decode("utf-8", "replace").splitlines()) or [""]
        first = lines[0].strip().removeprefix(f"{self._program.name}: ")[:160]
        said = first or f"QEMU ended with status {self._process.returncode}"
        return f"{self._accelerator} failed: {said}"


def _has_ended(process: subprocess.Popen[bytes], within_s: float) -> bool:
    """Whether it does within that time. Where the system tells of it, nobody looks again and again, as `Popen.wait` does."""
    if process.poll() is not None:
        return True
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox that has no such call
            descriptor = os.pidfd_open(process.pid)
            try:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                poll.poll(within_s * 1000)
            finally:
                os.close(descriptor)
            return process.poll() is not None
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _key(program: Path, architecture: Architecture, wanted: str) -> list[str | int]:
    """What the remembered answer depends on."""
    info = program.resolve().stat()
    key: list[str | int] = [
        _boot(),
        zlib.crc32(firmware.of(architecture).content),
        wanted,
        str(program.resolve()),
        info.st_mtime_ns,
        info.st_size,
    ]
    if sys.platform != "win32":
        key += [os.geteuid(), *sorted(os.getgroups())]
        with contextlib.suppress(FileNotFoundError):
            device = KVM_DEVICE.stat()
            key += [device.st_mode, device.st_uid, device.st_gid, device.st_rdev]
    return key


def _boot() -> str:
    """What tells one boot of the host from the next."""
    if sys.platform == "linux":
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    # Wall clock minus uptime, in minutes, since clocks are adjusted while a computer runs.
    return str(round((time.time() - time.monotonic()) / 60))


def _remembered(cache: Path, key: list[str | int]) -> Probe | None:
    try:
        stored = json.loads(cache.read_text("utf-8"))
        return Probe(**stored["probe"]) if stored["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(cache: Path, key: list[str | int], probe: Probe) -> None:
    # A full or read-only disk costs the next start two seconds, and must not cost this one its success.
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_whole(cache, json.dumps({"key": key, "probe": asdict(probe)}, indent=1).encode())
