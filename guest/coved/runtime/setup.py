"""What the new process does between clone and execve, as a container's init or as an exec in it.

Nothing here returns: the process executes its program, or reports why not and ends.
"""

import errno
import json
import os
import resource
import signal
import socket
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from coved.runtime import executable, namespaces, paths, rootfs, syscalls, sysctls, terminal, users
from coved.runtime.capabilities import CAP_SYS_ADMIN, CapabilitySets

if TYPE_CHECKING:
    from collections.abc import Callable

    from coved.runtime.spec import Process, Spec

GO = b"go"
MAPPED = b"mapped"
SETUP_FAILED = 125
IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""By Python itself. The spawner ignores no others but SIGCHLD, a shim SIGTERM."""
_PATHS_AT_ONCE = 8  # of 4096 bytes at most, which JSON may make six times as long: a message has 200 KiB
_LIMITS = {"RLIMIT_LOCKS": 10}  # getrlimit(2); Python has no name for it


class Became(NamedTuple):
    """What a process has become: ``warnings`` for whoever asked for it, and the capabilities that it is to have at last."""

    warnings: list[str]
    sets: CapabilitySets


class Request(NamedTuple):
    """What shim and new process share: ``stdio`` are the process's ends, or None when it gets a terminal."""

    process: "Process"
    sync: socket.socket
    stdio: tuple[int, int, int] | None
    size: tuple[int, int]
    seccomp: bytes


def run_init(request: Request, spec: "Spec", root: rootfs.PreparedRoot, spaces: namespaces.Namespaces) -> NoReturn:
    """A container's pid 1: build its root, then wait for ``GO`` just before execve."""
    linux = spec.get("linux", {})

    def enter() -> Became:
        # While it still is root of the machine, who alone may look into the folders above.
        place = os.open(root.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if spaces.new & syscalls.CLONE_NEWUSER:
            _expect(request.sync, MAPPED)
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        if spaces.new & syscalls.CLONE_NEWCGROUP:
            syscalls.unshare(syscalls.CLONE_NEWCGROUP)
        for name, value in linux.get("sysctl", {}).items():
            sysctls.write(name, value)
        slaves: list[int] = []

        def console(root_fd: int) -> int:
            slaves.append(_open_console(request, root_fd))
            return slaves[0]

        rootfs.build(root, place, spec, console if request.stdio is None else None)
        if (hostname := spec.get("hostname")) and spaces.has(syscalls.CLONE_NEWUTS):
            syscalls.sethostname(hostname)
        if (domain := spec.get("domainname")) and spaces.has(syscalls.CLONE_NEWUTS):
            syscalls.setdomainname(domain)
        _leave_keyring()
        if spec.get("reportMade"):
            for start in range(0, len(paths.made), _PATHS_AT_ONCE):
                _send(request.sync, {"made": paths.made[start : start + _PATHS_AT_ONCE]})
        return _become(request, slaves[0] if slaves else -1)

    _run(request, enter, await_go=True)


def run_exec(request: Request, init_pidfd: int, spaces: namespaces.Namespaces) -> NoReturn:
    """Another process in a container; the shim has put its children into the pid namespace already."""

    def enter() -> Became:
        set_oom_score("self", request.process)
        syscalls.setns(init_pidfd, spaces.all_flags() & ~syscalls.CLONE_NEWPID)
        if spaces.new & syscalls.CLONE_NEWUSER:
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        _leave_keyring()
        slave = -1
        if request.stdio is None:
            root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            slave = _open_console(request, root_fd)
            os.close(root_fd)
        return _become(request, slave, make_directory=False)

    _run(request, enter, await_go=False)


def _leave_keyring() -> None:
    """Keys of one container are no other's. Where there can be no new keyring (a quota) the spawner's is left, which is empty."""
    try:
        syscalls.new_session_keyring()
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EDQUOT):
            raise


def _run(request: Request, enter: "Callable[[], Became]", *, await_go: bool) -> NoReturn:
    sync = request.sync
    try:
        # Until execve this process holds the runtime's memory: processes of the container must not look into it.
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        for number in (*IGNORED, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        warnings, sets = enter()
        if await_go:
            _send(sync, {"ready": True, "warnings": warnings})
            _expect(sync, GO)
        _execute(request, sets)
    except executable.NotExecutable as error:
        _send(sync, {"kind": "start", "error": str(error), "exit_code": error.exit_code})
        os._exit(error.exit_code)
    except (users.UserError, _NoDirectory) as error:
        _send(sync, {"kind": "engine", "error": str(error)})
    except OSError as error:
        where = "error during container init: " if await_go else ""
        subject = f"{error.filename} " if error.filename else ""
        _send(sync, {"kind": "create", "error": f"{where}{subject}{syscalls.describe(error)}"})
    except BaseException as error:
        _send(sync, {"kind": "create", "error": f"error during container init: {error}"})
    os._exit(SETUP_FAILED)


def _send(sync: socket.socket, message: dict[str, Any]) -> None:
    try:
        sync.send(json.dumps(message).encode())
    except OSError:
        os._exit(SETUP_FAILED)  # the shim is gone, and with it whoever could be told


def _expect(sync: socket.socket, word: bytes) -> None:
    if sync.recv(16) != word:
        os._exit(SETUP_FAILED)


def _open_console(request: Request, root_fd: int) -> int:
    master, slave = terminal.open_terminal(root_fd)
    height, width = request.size
    if height and width:
        terminal.set_size(master, height, width)
    socket.send_fds(request.sync, [b'{"console":true}'], [master])
    os.close(master)
    return slave


def _become(request: Request, slave: int, *, make_directory: bool = True) -> Became:
    """Everything that makes the process what its spec says, but for what must come last.

    ``make_directory``: its working directory is made when it is not there, as docker does for a container, not for an exec.
    """
    process = request.process
    _set_limits(process)
    identity = users.resolve(process.get("user", {}))
    _connect_stdio(request, slave, identity.uid)
    moved = _change_directory(process.get("cwd") or "/", make=make_directory)
    if profile := process.get("apparmorProfile"):
        _set_apparmor_profile(profile)
    sets = CapabilitySets(process.get("capabilities", {}))
    warnings = [f"capability {name} is not available and was left out" for name in sets.missing]
    sets.drop_bounding()
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    if "umask" in process.get("user", {}):
        os.umask(process["user"]["umask"])
    else:
        os.umask(0o022)
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 0)
    # Without no_new_privs only CAP_SYS_ADMIN may install a seccomp filter: it is given up right after that.
    needs_admin = request.seccomp and not process.get("noNewPrivileges")
    sets.apply(keep=CAP_SYS_ADMIN if needs_admin else 0)
    if not moved:
        _change_directory(process.get("cwd") or "/", last=True)
    # Ends with its shim: a container that nobody waits for and whose output nobody reads must not linger. A change
    # of credentials resets this, so it comes after them.
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if not any(entry.startswith("HOME=") and entry != "HOME=" for entry in process.get("env", [])):
        process.setdefault("env", []).append(f"HOME={identity.home}")
    return Became(warnings, sets)


def _execute(request: Request, sets: CapabilitySets) -> NoReturn:
    process = request.process
    arguments = process.get("args") or []
    if not arguments:
        raise executable.NotExecutable("no command specified", executable.NOT_FOUND)
    environment = dict(entry.split("=", 1) for entry in process.get("env", []) if "=" in entry[1:])
    path = executable.find(arguments[0], environment.get("PATH", executable.DEFAULT_PATH))
    encoded = {os.fsencode(key): os.fsencode(value) for key, value in environment.items()}
    _send(request.sync, {"executing": True})
    syscalls.close_range_cloexec(3)
    # The library's own calls must not need anything that the filter forbids: from here on it is only this.
    if process.get("noNewPrivileges"):
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        sets.apply()
        sets.apply_ambient()
        if request.seccomp:
            syscalls.install_seccomp(request.seccomp)
    else:
        if request.seccomp:
            syscalls.install_seccomp(request.seccomp)
        sets.apply()
        sets.apply_ambient()
    try:
        os.execve(path, arguments, encoded)
    except OSError as error:
        # runc has told of the start by now, so that with it this is the process's own end: its output has the words, and its
        # exit status is 1. Users know them so, of images of another architecture for instance.
        try:
            os.write(2, os.fsencode(f"exec {path}: {syscalls.describe(error)}\n"))
        finally:
            os._exit(1)


def _set_apparmor_profile(name: str) -> None:
    """Confines the process from its execve on (aa_change_onexec(2)); without its own folder, AppArmor has the LSMs' one."""
    path = "/proc/thread-self/attr/apparmor/exec"
    if not os.path.exists(path):
        path = "/proc/thread-self/attr/exec"
    try:
        _write_file(path, f"exec {name}")
    except OSError as error:
        words = "unable to apply apparmor profile: apparmor failed to apply profile"
        raise OSError(error.errno, f"{words}: write {path}: {syscalls.describe(error)}") from None


def _connect_stdio(request: Request, slave: int, uid: int) -> None:
    if request.stdio is None:
        os.fchown(slave, uid, -1)
        terminal.become_controlling(slave)
        for number in range(3):
            os.dup2(slave, number)
        return
    for number, fd in enumerate(request.stdio):
        if fd >= 0:
            if uid:
                # So that the user can open /dev/stdout and the like.
                os.fchown(fd, uid, -1)
            os.dup2(fd, number)
        else:
            null = _open_null()
            os.dup2(null, number)
            os.close(null)


def _open_null() -> int:
    """The container's own /dev/null, if it is one: the host's would be a way to a mount of the host."""
    fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    if os.fstat(fd).st_rdev != os.makedev(1, 3):
        raise OSError(errno.ENODEV, "is not the null device", "/dev/null")
    os.set_blocking(fd, True)
    return fd


class _NoDirectory(Exception):
    """The container's working directory is something else. In the words of dockerd, which makes it itself."""


def _change_directory(path: str, *, make: bool = False, last: bool = False) -> bool:
    """False when only the process's own user may go there, unless this is the ``last`` try."""
    try:
        try:
            os.chdir(path)
        except FileNotFoundError:
            if not make:
                raise
            os.makedirs(path, 0o755, exist_ok=True)
            os.chdir(path)
        except NotADirectoryError:
            plain = os.path.normpath(path)
            if not make or not os.path.exists(plain):
                raise
            raise _NoDirectory(f"Cannot mkdir: {plain} is not a directory") from None
    except PermissionError:
        if not last:
            return False
        raise OSError(errno.EACCES, f'chdir to cwd ("{path}") set in config.json failed: permission denied') from None
    except OSError as error:
        text = (error.strerror or "").lower()
        raise OSError(error.errno, f'chdir to cwd ("{path}") set in config.json failed: {text}') from None
    # A path such as /proc/self/fd/7 could have led out of the container (CVE-2024-21626).
    try:
        inside = os.getcwd().startswith("/")
    except FileNotFoundError:
        inside = False
    if not inside:
        words = "current working directory is outside of container mount namespace root"
        raise OSError(errno.EPERM, f"{words} -- possible container breakout detected")
    return True


def _set_limits(process: "Process") -> None:
    for limit in process.get("rlimits", []):
        number = _LIMITS.get(limit["type"], getattr(resource, limit["type"], None))
        if number is None:
            raise OSError(errno.EINVAL, f"invalid rlimit type: {limit['type']}")
        try:
            resource.setrlimit(number, (_limit_value(limit["soft"]), _limit_value(limit["hard"])))
        except (OSError, ValueError, OverflowError) as error:  # Python makes a ValueError of EPERM, and of EINVAL
            text = "operation not permitted" if "not allowed" in str(error) else "invalid argument"
            if isinstance(error, OSError):
                text = syscalls.describe(error)
            raise OSError(errno.EINVAL, f"error setting rlimit type {number}: {text}") from None


def _limit_value(value: int) -> int:
    return resource.RLIM_INFINITY if value < 0 or value >= 2**63 - 1 else value


def set_oom_score(pid: str, process: "Process") -> None:
    """Of ``pid`` ("self" or a number). Always: a shim's own is such that it is killed last, and children would inherit it."""
    path = f"/proc/{pid}/oom_score_adj"
    try:
        _write_file(path, str(process.get("oomScoreAdj", 0)))
    except OSError as error:
        raise OSError(error.errno, f"write {path}: {syscalls.describe(error)}") from None


def _write_file(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
