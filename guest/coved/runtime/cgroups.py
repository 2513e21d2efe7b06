"""A container's cgroup (v2): made, limited, watched, frozen, killed, removed. kernel: admin-guide/cgroup-v2.rst."""

import contextlib
import functools
import os
import select
import time
from typing import TYPE_CHECKING

from coved.runtime import mountinfo
from coved.runtime.syscalls import describe

if TYPE_CHECKING:
    from coved.runtime.spec import BlockIoResources, CpuResources, MemoryResources, Resources

_USUAL = "/sys/fs/cgroup"
_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb")


class CgroupError(Exception):
    """The cgroup cannot be made or changed."""


@functools.cache
def mount_point() -> str:
    """Where cgroup v2 is mounted; on hosts that also have v1 that may be a subdirectory."""
    points = [mounted.point for mounted in mountinfo.entries() if mounted.kind == "cgroup2"]
    if points:  # of several the usual place is this system's own
        return _USUAL if _USUAL in points else points[0]
    raise CgroupError("cgroup v2 is not mounted")


def cpu_weight(shares: int) -> int:
    """CPU shares (2 to 262144) as a cgroup v2 weight (1 to 10000), the conversion that the OCI runtimes share."""
    if shares == 0:
        return 0
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def _amount(value: int) -> str:
    return "max" if value < 0 else str(value)


class Cgroup:
    """``path``: the directory. ``warnings``: limits that were discarded since their controller is missing."""

    def __init__(self, cgroups_path: str, root: str | None = None) -> None:
        parts = [part for part in cgroups_path.split("/") if part]
        if not parts or any(part in (".", "..") for part in parts):
            raise CgroupError(f"'{cgroups_path}' is no cgroup path")
        self._root = root or mount_point()
        self._parts = parts
        self.path = "/".join([self._root, *parts])
        self.warnings: list[str] = []

    def create(self) -> int:
        """Make it, with all controllers that are to be had; a descriptor of its directory, to be born into."""
        directory = self._root
        for part in self._parts:
            self._enable_controllers(directory)
            directory = f"{directory}/{part}"
            try:
                os.mkdir(directory, 0o755)
            except FileExistsError:
                if directory == self.path and self.is_populated():
                    raise CgroupError(f"the cgroup {self.path} is in use") from None
            except OSError as error:
                raise CgroupError(f"the cgroup {directory} cannot be made: {describe(error)}") from None
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @staticmethod
    def _enable_controllers(directory: str) -> None:
        available = _read(f"{directory}/cgroup.controllers").split()
        enabled = _read(f"{directory}/cgroup.subtree_control").split()
        for name in _CONTROLLERS:
            if name in available and name not in enabled:
                # A controller that cannot be enabled here (processes in the directory, real-time tasks) is like
                # one that is missing: its limits are discarded with a warning.
                with contextlib.suppress(OSError):
                    _write(f"{directory}/cgroup.subtree_control", f"+{name}")

    def apply(self, resources: "Resources") -> list[str]:
        """Set limits; returns warnings about those that could not be had, for want of a controller."""
        self.warnings = []
        if memory := resources.get("memory"):
            self._apply_memory(memory)
        if cpu := resources.get("cpu"):
            self._apply_cpu(cpu)
        if (pids := resources.get("pids")) and pids["limit"] != 0:
            self._set("pids.max", _amount(pids["limit"]), "pids limit")
        if block_io := resources.get("blockIO"):
            self._apply_io(block_io)
        for page in resources.get("hugepageLimits", []):
            self._set(f"hugetlb.{page['pageSize']}.max", str(page["limit"]), "huge page limit")
        for name, value in resources.get("unified", {}).items():
            if "/" in name or name.startswith("cgroup."):
                raise CgroupError(f"'{name}' is no limit")
            self._set(name, value, f"limit {name}")
        return self.warnings

    def _apply_memory(self, memory: "MemoryResources") -> None:
        limit, swap = memory.get("limit", 0), memory.get("swap", 0)
        if swap and limit > 0:
            self._set("memory.swap.max", _amount(swap if swap < 0 else max(0, swap - limit)), "swap limit")
        elif swap < 0:
            self._set("memory.swap.max", "max", "swap limit")
        if limit:
            self._set("memory.max", _amount(limit), "memory limit")
        if reservation := memory.get("reservation", 0):
            self._set("memory.low", _amount(reservation) if reservation > 0 else "0", "memory reservation")

    def _apply_cpu(self, cpu: "CpuResources") -> None:
        if shares := cpu.get("shares", 0):
            self._set("cpu.weight", str(cpu_weight(shares)), "CPU shares")
        quota, period = cpu.get("quota", 0), cpu.get("period", 0)
        if quota or period:
            self._set("cpu.max", f"{quota if quota > 0 else 'max'} {period or 100000}", "CPU quota")
        if "burst" in cpu:
            self._set("cpu.max.burst", str(cpu["burst"]), "CPU burst")
        if "idle" in cpu:
            self._set("cpu.idle", str(cpu["idle"]), "CPU idle")
        if cpus := cpu.get("cpus"):
            self._set("cpuset.cpus", cpus, "CPU set")
        if mems := cpu.get("mems"):
            self._set("cpuset.mems", mems, "memory nodes")

    def _apply_io(self, block_io: "BlockIoResources") -> None:
        name = "io.bfq.weight" if os.path.exists(f"{self.path}/io.bfq.weight") else "io.weight"

        def scaled(weight: int) -> int:
            return weight if name == "io.bfq.weight" else 1 + (weight - 10) * 9999 // 990

        if weight := block_io.get("weight", 0):
            self._set(name, f"default {scaled(weight)}", "block IO weight")
        for one in block_io.get("weightDevice", []):
            self._set(name, f"{one['major']}:{one['minor']} {scaled(one['weight'])}", "block IO device weight")
        limits = (
            ("rbps", block_io.get("throttleReadBpsDevice", [])),
            ("wbps", block_io.get("throttleWriteBpsDevice", [])),
            ("riops", block_io.get("throttleReadIOPSDevice", [])),
            ("wiops", block_io.get("throttleWriteIOPSDevice", [])),
        )
        for key, devices in limits:
            for device in devices:
                self._set("io.max", f"{device['major']}:{device['minor']} {key}={device['rate']}", "block IO limit")

    def _set(self, name: str, value: str, what: str) -> None:
        try:
            _write(f"{self.path}/{name}", value)
        except (FileNotFoundError, PermissionError):  # cgroupfs answers EACCES or EPERM to the making of files
            self.warnings.append(f"Your kernel does not support {what} or the cgroup is not mounted. Limit discarded.")
        except OSError as error:
            raise CgroupError(f'failed to write "{value}" to {self.path}/{name}: {describe(error)}') from None

    # --- watching and ending

    def oom_kills(self) -> int:
        """Processes that the kernel killed for want of memory; 0 without the memory controller."""
        return _keyed(f"{self.path}/memory.events", "oom_kill")

    def open_memory_events(self) -> int:
        """A descriptor that tells of changes by POLLPRI; -1 without the memory controller."""
        try:
            return os.open(f"{self.path}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1

    def is_populated(self) -> bool:
        return _keyed(f"{self.path}/cgroup.events", "populated") == 1

    def is_frozen(self) -> bool:
        return _keyed(f"{self.path}/cgroup.events", "frozen") == 1

    def processes(self) -> list[int]:
        return [int(pid) for pid in _read(f"{self.path}/cgroup.procs").split()]

    def kill(self) -> None:
        """SIGKILL to all, atomically (cgroup.kill, Linux 5.14)."""
        with contextlib.suppress(FileNotFoundError):
            _write(f"{self.path}/cgroup.kill", "1")

    def freeze(self, frozen: bool, timeout_s: float = 10.0) -> bool:
        """Freeze or thaw all processes; whether that was so within the time. What could not be frozen goes on."""
        _write(f"{self.path}/cgroup.freeze", "1" if frozen else "0")
        done = self._await_event("frozen", int(frozen), timeout_s)
        if (
            frozen and not done
        ):  # those of them that stand still would stand for ever, in a container that is told to run
            _write(f"{self.path}/cgroup.freeze", "0")
        return done

    def remove(self, timeout_s: float = 5.0) -> bool:
        """Kill what is in it and remove it; whether it is gone. Waits for the kernel's notification."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._remove_tree(self.path)
                return True
            except FileNotFoundError:
                return True
            except OSError:
                self.kill()
                if not self._await_event("populated", 0, deadline - time.monotonic()):
                    return False
                # Empty and yet busy: a zombie that its parent is just reaping. The kernel tells that by no event.
                if time.monotonic() > deadline:
                    return False
                os.sched_yield()

    def _remove_tree(self, path: str) -> None:
        try:
            os.rmdir(path)
        except OSError:
            # Containers with a cgroup namespace of their own may have made cgroups below theirs.
            for entry in os.scandir(path):
                if entry.is_dir(follow_symlinks=False):
                    self._remove_tree(entry.path)
            os.rmdir(path)

    def _await_event(self, key: str, value: int, timeout_s: float) -> bool:
        try:
            fd = os.open(f"{self.path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return key == "populated"
        deadline = time.monotonic() + timeout_s
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            while True:
                for line in os.pread(fd, 4096, 0).decode().splitlines():
                    if line == f"{key} {value}":
                        return True
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not poll.poll(remaining * 1000):
                    return False
        finally:
            os.close(fd)


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
        return b"".join(chunks).decode()
    finally:
        os.close(fd)


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _keyed(path: str, key: str) -> int:
    for line in _read(path).splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0
