"""System calls that Python has no wrapper for (or not yet in 3.11), as typed functions that raise OSError.

The library is loaded as ``PyDLL``, which keeps the GIL over a call: spawner, shims and their children have one thread,
so letting go of it would only cost time. Numbers from 424 on are the same on all architectures.
"""

import ctypes
import os
import signal
from ctypes import c_int, c_ulong

_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
# Lets go of the interpreter meanwhile: the engine has many threads, and a path of a container's may lead into a file
# system that answers late or never.
_waiting_syscall = ctypes.CDLL(None, use_errno=True).syscall
_waiting_syscall.restype = ctypes.c_long

_BY_ARCHITECTURE = {
    # pivot_root, keyctl, capset, bpf, rt_sigaction
    "x86_64": (155, 250, 126, 321, 13),
    "aarch64": (41, 219, 91, 280, 134),
}
SYS_pivot_root, SYS_keyctl, SYS_capset, SYS_bpf, SYS_rt_sigaction = _BY_ARCHITECTURE[os.uname().machine]
SYS_open_tree, SYS_move_mount, SYS_fsopen, SYS_fsconfig, SYS_fsmount = 428, 429, 430, 431, 432
SYS_clone3, SYS_close_range, SYS_openat2, SYS_mount_setattr = 435, 436, 437, 442

CLONE_PIDFD = 0x1000
CLONE_FS = 0x200
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_CLEAR_SIGHAND = 1 << 32
CLONE_INTO_CGROUP = 1 << 33

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_SET_FD, FSCONFIG_CMD_CREATE = 0, 1, 5, 6

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x200000
MOUNT_ATTR_IDMAP = 0x100000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 4096, 16384, 1 << 17, 1 << 18, 1 << 19, 1 << 20
MNT_DETACH = 2
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2

PROC_SUPER_MAGIC = 0x9FA0

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME = 1, 4, 8, 15
PR_SET_SECCOMP, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 22, 23, 24, 38, 47
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4

CLOSE_RANGE_CLOEXEC = 4


def describe(error: OSError | int) -> str:
    """What went wrong in lower case: users' tools match on these texts as the OCI runtimes write them."""
    text = os.strerror(error) if isinstance(error, int) else error.strerror or str(error)
    return text[:1].lower() + text[1:]


def _fail(call: str, path: str | None = None) -> OSError:
    number = ctypes.get_errno()
    text = f"{call}: {describe(number)}"
    return OSError(number, text, path) if path is not None else OSError(number, text)


def reset_signal(number: int) -> None:
    """Sets a signal to its default, also one that the C library keeps to itself (nptl(7): 32, 33) and glibc's posix_spawn(3) leaves
    ignored in what it starts. Raises OSError.
    """
    action = bytes(32)  # rt_sigaction(2): SIG_DFL, no flags, nothing blocked
    if _syscall(SYS_rt_sigaction, c_int(number), action, None, ctypes.c_size_t(8)) != 0:
        raise _fail("rt_sigaction")


def _path(path: str) -> bytes:
    data = os.fsencode(path)
    if b"\0" in data:
        raise ValueError("a path holds a null byte")
    return data


class _CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in ("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls")
    ] + [(name, ctypes.c_uint64) for name in ("set_tid", "set_tid_size", "cgroup")]


def clone3(flags: int, cgroup_fd: int | None = None) -> tuple[int, int]:
    """Fork into new namespaces, and into a cgroup; ``(pid, pidfd)`` in the parent, ``(0, -1)`` in the child.

    clone3(2). Being born in the cgroup spares a migration, which waits for an RCU grace period (milliseconds).
    The interpreter's own fork handlers are run, as os.fork() does. Single-threaded callers only.
    """
    pidfd = c_int(-1)
    arguments = _CloneArgs(
        flags=flags | CLONE_PIDFD | (CLONE_INTO_CGROUP if cgroup_fd is not None else 0),
        pidfd=ctypes.addressof(pidfd),
        exit_signal=signal.SIGCHLD,
        cgroup=cgroup_fd or 0,
    )
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = _syscall(SYS_clone3, ctypes.byref(arguments), ctypes.c_size_t(ctypes.sizeof(arguments)))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0, -1
    number = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, f"clone3: {describe(number)}")
    return pid, pidfd.value


def setns(fd: int, kinds: int) -> None:
    """setns(2); ``fd`` is a namespace's file or a pidfd."""
    if _libc.setns(c_int(fd), c_int(kinds)) != 0:
        raise _fail("setns")


def unshare(kinds: int) -> None:
    if _libc.unshare(c_int(kinds)) != 0:
        raise _fail("unshare")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2), for what the newer calls cannot do on older kernels."""
    arguments = [None if one is None else _path(one) for one in (source, target, kind)]
    if _libc.mount(*arguments, c_ulong(flags), None if data is None else _path(data)) != 0:
        raise _fail("mount", target)


def exchange(one: str, other: str) -> None:
    """renameat2(2) with RENAME_EXCHANGE: each gets the other's place, in one step; both are on one file system."""
    if _libc.renameat2(AT_FDCWD, _path(one), AT_FDCWD, _path(other), _RENAME_EXCHANGE) != 0:
        raise _fail("renameat2", other)


def rename_new(path: str, target: str) -> None:
    """renameat2(2) with RENAME_NOREPLACE. Raises FileExistsError when there is something at ``target``, OSError."""
    if _libc.renameat2(AT_FDCWD, _path(path), AT_FDCWD, _path(target), _RENAME_NOREPLACE) != 0:
        raise _fail("renameat2", target)


def umount2(target: str, flags: int) -> None:
    if _libc.umount2(_path(target), c_int(flags)) != 0:
        raise _fail("umount2", target)


def open_tree(directory: int, path: str, flags: int) -> int:
    fd = int(_syscall(SYS_open_tree, c_int(directory), _path(path), c_int(flags | OPEN_TREE_CLOEXEC)))
    if fd < 0:
        raise _fail("open_tree", path)
    return fd


def move_mount(from_fd: int, to_fd: int, to_path: str = "") -> None:
    """Attach a detached mount; with an empty path, on what ``to_fd`` itself is open on."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if to_path else MOVE_MOUNT_T_EMPTY_PATH)
    if _syscall(SYS_move_mount, c_int(from_fd), b"", c_int(to_fd), _path(to_path), c_int(flags)) != 0:
        raise _fail("move_mount", to_path)


def fsopen(kind: str) -> int:
    fd = int(_syscall(SYS_fsopen, _path(kind), c_int(FSOPEN_CLOEXEC)))
    if fd < 0:
        raise _fail("fsopen", kind)
    return fd


def fsconfig(fd: int, command: int, key: str | None = None, value: str | None = None) -> None:
    """Raises OSError whose text is the kernel's own message where it left one (read from the context)."""
    arguments = (None if key is None else _path(key), None if value is None else _path(value))
    if _syscall(SYS_fsconfig, c_int(fd), c_int(command), *arguments, c_int(0)) != 0:
        error = _fail("fsconfig", key)
        try:
            message = os.read(fd, 1024).decode(errors="replace")
        except OSError:
            raise error from None
        raise OSError(error.errno, message.partition(" ")[2].strip() or error.strerror, key) from None


def fsmount(fd: int, attributes: int = 0) -> int:
    mount_fd = int(_syscall(SYS_fsmount, c_int(fd), c_int(FSMOUNT_CLOEXEC), c_int(attributes)))
    if mount_fd < 0:
        raise _fail("fsmount")
    return mount_fd


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def mount_setattr(
    fd: int, *, set_: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False, userns_fd: int = 0
) -> None:
    """mount_setattr(2) on the mount that ``fd`` is open on."""
    attributes = _MountAttr(set_, clear, propagation, userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    if _syscall(SYS_mount_setattr, c_int(fd), b"", c_int(flags), ctypes.byref(attributes), size) != 0:
        raise _fail("mount_setattr")


class _OpenHow(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


def openat2(directory: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2); always close-on-exec. A race that the kernel reports (EAGAIN) is tried again."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    encoded = _path(path)
    for _ in range(128):
        fd = int(
            _waiting_syscall(
                SYS_openat2, c_int(directory), encoded, ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
            )
        )
        if fd >= 0:
            return fd
        if ctypes.get_errno() != 11:
            break
    number = ctypes.get_errno()
    raise OSError(number, describe(number), path)


def file_system(fd: int) -> int:
    """The magic number of the file system that a descriptor is on (statfs(2))."""
    buffer = (ctypes.c_long * 32)()  # f_type comes first on all architectures here, and all of it takes less
    if _libc.fstatfs(c_int(fd), ctypes.byref(buffer)) != 0:
        raise _fail("fstatfs")
    return buffer[0]


def pivot_root(new_root: str, put_old: str) -> None:
    if _syscall(SYS_pivot_root, _path(new_root), _path(put_old)) != 0:
        raise _fail("pivot_root")


def close_range_cloexec(first: int) -> None:
    """Mark every descriptor from ``first`` on close-on-exec: whatever leaked ends at execve."""
    if _syscall(SYS_close_range, ctypes.c_uint(first), ctypes.c_uint(0xFFFFFFFF), c_int(CLOSE_RANGE_CLOEXEC)) != 0:
        raise _fail("close_range")


def prctl(option: int, first: int = 0, second: int = 0) -> int:
    result = int(_libc.prctl(c_int(option), c_ulong(first), c_ulong(second), c_ulong(0), c_ulong(0)))
    if result < 0:
        raise _fail(f"prctl {option}")
    return result


def set_process_name(name: str) -> None:
    """The name that ps and top show (15 bytes)."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    prctl(PR_SET_NAME, ctypes.addressof(buffer))


def sethostname(name: str) -> None:
    encoded = name.encode()
    if _libc.sethostname(encoded, ctypes.c_size_t(len(encoded))) != 0:
        raise _fail("sethostname")


def setdomainname(name: str) -> None:
    encoded = name.encode()
    if _libc.setdomainname(encoded, ctypes.c_size_t(len(encoded))) != 0:
        raise _fail("setdomainname")


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) with bit masks, version 3 of its structures, for the calling thread."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(
        *(mask & 0xFFFFFFFF for mask in (effective, permitted, inheritable)),
        *(mask >> 32 for mask in (effective, permitted, inheritable)),
    )
    if _syscall(SYS_capset, header, data) != 0:
        raise _fail("capset")


class _SockFprog(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def install_seccomp(program: bytes) -> None:
    """Install a classic BPF program (8 bytes an instruction) as the thread's seccomp filter, for good."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = _SockFprog(len(program) // 8, ctypes.addressof(buffer))
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(fprog))  # SECCOMP_MODE_FILTER


def new_session_keyring() -> None:
    """keyctl(2) KEYCTL_JOIN_SESSION_KEYRING without a name: always a new one, which nobody else can join."""
    if _syscall(SYS_keyctl, c_int(1), None) < 0:
        raise _fail("keyctl")


def bpf(command: int, attributes: ctypes.Structure) -> int:
    result = int(_syscall(SYS_bpf, c_int(command), ctypes.byref(attributes), ctypes.c_uint(ctypes.sizeof(attributes))))
    if result < 0:
        raise _fail("bpf")
    return result


def is_devpts(fd: int) -> bool:
    """Whether a descriptor lies on a devpts file system (fstatfs(2), DEVPTS_SUPER_MAGIC)."""
    buffer = ctypes.create_string_buffer(256)
    if _libc.fstatfs(c_int(fd), buffer) != 0:
        raise _fail("fstatfs")
    return ctypes.c_long.from_buffer(buffer).value == 0x1CD1
