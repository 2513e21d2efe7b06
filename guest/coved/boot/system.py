"""The kernel's interfaces that a system needs: mounts, modules, sysctls, the host name."""

import ctypes
import os

from coved.boot.console import BootError, say

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_RDONLY = 2, 4, 8, 32, 1
MS_BIND, MS_REC, MS_SHARED, MS_NOATIME = 1 << 12, 1 << 14, 1 << 20, 1 << 10
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)

# Source, target, type, flags, data. /proc, /sys and /dev come mounted from the initramfs.
_MOUNTS = (
    ("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755"),
    ("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"),
    ("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"),
    ("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777"),
    ("mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, ""),
    ("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate"),
    ("bpf", "/sys/fs/bpf", "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=700"),
)

_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/core/somaxconn": "4096",
    # Of a burst of connections through a bridge, the first packets of all of them lie in one such queue.
    "net/core/netdev_max_backlog": "8192",
    "net/ipv4/ip_local_port_range": "32768 48999",  # above are the ports that the host forwards to
    "fs/inotify/max_user_instances": "8192",
    "fs/inotify/max_user_watches": "524288",
    "kernel/keys/maxkeys": "20000",
    "kernel/panic": "-1",
    # What the kernel runs when Hyper-V asks for an end; it tells PID 1 by SIGUSR2.
    "kernel/poweroff_cmd": "/usr/bin/poweroff",
    "vm/max_map_count": "262144",
    # What wakes an idle VM twice a second, each second, and every four seconds: huge pages made in advance, counters put together,
    # and the look for processors that hang, which then find it out within a minute and not half of one.
    "vm/compaction_proactiveness": "0",
    "vm/stat_interval": "60",
    "kernel/watchdog_thresh": "30",
}


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2). Raises ``OSError``."""
    done = _libc.mount(source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode())
    if done:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2). Raises ``OSError``."""
    if _libc.umount2(target.encode(), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def reboot(command: int) -> None:
    """reboot(2). Raises ``OSError``."""
    if _libc.reboot(ctypes.c_int(command)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def prepare() -> None:
    """Mount what is missing, enable the controllers of cgroup v2, set sysctls. Raises ``BootError``."""
    for source, target, kind, flags, data in _MOUNTS:
        try:
            os.makedirs(target, exist_ok=True)
            mount(source, target, kind, flags, data)
        except OSError as error:
            raise BootError(f"cannot mount {target}: {error.strerror}") from error
    # Containers make their own mounts private; those that ask for shared ones find them so (as under systemd).
    mount("", "/", "", MS_REC | MS_SHARED)
    with open("/sys/fs/cgroup/cgroup.controllers") as file:
        controllers = file.read().split()
    write("/sys/fs/cgroup/cgroup.subtree_control", " ".join(f"+{name}" for name in controllers))
    for name, value in _SYSCTLS.items():
        write(f"/proc/sys/{name}", value)


def hold_device_filter() -> None:
    """Attach a device filter to the empty group that vm-images/init made, for good.

    The kernel patches itself when the first filter is attached and when the last one goes, which QEMU before 8.1 may get
    wrong (see there). With one that stays, containers' filters come and go without that.
    """
    from coved.runtime import device_filter

    try:
        group = os.open("/sys/fs/cgroup/cove.held", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        device_filter.restrict(group, [])
        os.close(group)
    except OSError as error:
        say(f"no device filter could be attached: {error.strerror}")


def protect_interpreter() -> None:
    """Make the interpreter read-only, whatever way leads to it, as ``coved.runtime.spawner`` wants it (CVE-2019-5736)."""
    path = os.path.realpath("/proc/self/exe")
    mount(path, path, "", MS_BIND)
    mount("", path, "", MS_BIND | MS_REMOUNT | MS_RDONLY)
    os.environ["COVE_SPAWNER_PROTECTED"] = "1"


def name_ports() -> None:
    """Link /dev/virtio-ports/NAME to each virtio-serial port, as udev does elsewhere."""
    root = "/sys/class/virtio-ports"
    os.makedirs("/dev/virtio-ports", exist_ok=True)
    for port in os.listdir(root) if os.path.isdir(root) else ():
        with open(f"{root}/{port}/name") as file:
            name = file.read().strip()
        if name and "/" not in name:
            os.symlink(f"../{port}", f"/dev/virtio-ports/{name}")


def write(path: str, value: str) -> None:
    """Write a kernel setting; one that this kernel does not have is told on the console and no failure."""
    try:
        with open(path, "w") as file:
            file.write(value)
    except OSError as error:
        say(f"{path} cannot be set to {value!r}: {error.strerror}")


def run(*words: str) -> int:
    """Run a program to its end and return its exit status."""
    child = os.posix_spawn(words[0], words, os.environ)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
