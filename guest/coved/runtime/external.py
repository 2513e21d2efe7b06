"""Containers made by another OCI runtime (crun): the shim stays what it is, and runs that runtime's command line.

The OCI runtime spec's operations are used as containerd's shim uses them: ``create``, ``start``, ``exec --detach`` and
``delete``. The shim keeps stdio, log, exit record, cgroup and device rules to itself: the runtime is born in the cgroup that
the shim has made and limited, and is told to leave cgroups alone. What it forks and leaves becomes the shim's child.

Loaded only in shims of such containers.
"""

import contextlib
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import time
from typing import TYPE_CHECKING, Any, NoReturn

from coved.runtime import cgroups, paths, syscalls, users
from coved.runtime.loop import READ, Loop
from coved.runtime.process import RunningProcess, SetupError

if TYPE_CHECKING:
    from collections.abc import Callable

    from coved.runtime.rootfs import PreparedRoot
    from coved.runtime.spec import Mount, Process, Spec
    from coved.runtime.stdio import ProcessIO

_TIMEOUT_S = 30.0
_PR_SET_CHILD_SUBREAPER = 36
_PLACE = "/mnt"  # in the mount namespace that a runtime's run has for itself
_NO_FILE = "/nonexistent"
_SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Runtime:
    """One container's state of the runtime at ``program``, in ``folder``."""

    def __init__(self, program: str, folder: str, container_id: str, cgroup_fd: int) -> None:
        self.program = program
        self.folder = f"{folder}/bundle"
        self.container_id = container_id
        self.cgroup_fd = cgroup_fd
        self._running: set[int] = set()
        os.mkdir(self.folder, 0o700)
        syscalls.prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def spawn(
        self, arguments: list[str], stdio: tuple[int, int, int], prepare: "Callable[[], None] | None" = None
    ) -> tuple[int, int]:
        """Run it with these words in a mount namespace of its own; ``(pid, pidfd)``. ``prepare`` is called in that."""
        pid, pidfd = syscalls.clone3(syscalls.CLONE_NEWNS | syscalls.CLONE_CLEAR_SIGHAND, self.cgroup_fd)
        if pid == 0:
            try:
                self._execute(arguments, stdio, prepare)
            except BaseException as error:
                with contextlib.suppress(OSError):
                    self._log(f"{self.program}: {getattr(error, 'strerror', None) or error}")
            finally:
                os._exit(127)
        self._running.add(pid)
        return pid, pidfd

    def reap(self, pid: int) -> int:
        """The status of a run that has ended, as of wait(2)."""
        self._running.discard(pid)
        return os.waitpid(pid, 0)[1]

    def reap_orphans(self, loop: Loop, processes: "Callable[[], set[int]]") -> None:
        """From now on, wait for children that nobody here knows: what a failed run has left, or lost its own parent.

        A pid namespace does not end before the last of its processes is waited for. ``processes`` are those that are.
        """
        told, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

        def on_children(events: int) -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(told, 4096)
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
                children = {int(pid) for pid in file.read().split()}
            for pid in children - processes() - self._running:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

        loop.watch(told, READ, on_children)
        on_children(READ)

    def _execute(
        self, arguments: list[str], stdio: tuple[int, int, int], prepare: "Callable[[], None] | None"
    ) -> NoReturn:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
        if cgroups.mount_point() != "/sys/fs/cgroup":
            # A machine that has v1 as well; runtimes look for v2 in this place only.
            syscalls.mount(cgroups.mount_point(), "/sys/fs/cgroup", None, syscalls.MS_BIND)
        if prepare is not None:
            prepare()
        for number, fd in enumerate(stdio):
            os.dup2(fd if fd >= 0 else _nothing(), number)
        os.chdir(self.folder)  # so that paths stay short enough for a socket
        syscalls.close_range_cloexec(3)
        words = [
            self.program,
            "--root",
            "state",
            "--log",
            "log",
            "--log-format",
            "json",
            "--cgroup-manager",
            "disabled",
        ]
        os.execve(self.program, [*words, *arguments], dict([_SEARCH_PATH.split("=", 1)]))

    def _log(self, message: str) -> None:
        with open(f"{self.folder}/log", "a", encoding="utf-8") as file:
            file.write(json.dumps({"level": "error", "msg": message}) + "\n")

    def call(self, *arguments: str) -> None:
        """Run it to its end, its output thrown away. Raises SetupError."""
        pid, pidfd = self.spawn(list(arguments), (-1, -1, -1))
        self.finish(pid, pidfd, time.monotonic() + _TIMEOUT_S, -1)

    def finish(self, pid: int, pidfd: int, deadline: float, console: int) -> int:
        """Wait until it has ended well; a terminal's master that came to the socket ``console``, or -1. Raises SetupError."""
        poll, master = select.poll(), -1
        poll.register(pidfd, select.POLLIN)
        if console >= 0:
            poll.register(console, select.POLLIN)
        try:
            while True:
                events = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
                if console in events:
                    poll.unregister(console)
                    master = _receive_terminal(console)
                    continue
                if not events:
                    os.kill(pid, signal.SIGKILL)
                status = self.reap(pid)
                if not events:
                    raise SetupError(f"{self.program} took more than {_TIMEOUT_S:.0f} s")
                if status != 0:
                    raise self.failure()
                return master
        except BaseException:
            if master >= 0:
                os.close(master)
            raise
        finally:
            os.close(pidfd)

    def failure(self) -> SetupError:
        """The last error in its log."""
        message = ""
        with contextlib.suppress(OSError), open(f"{self.folder}/log", "rb") as file:
            for line in file.read()[-65536:].splitlines():
                with contextlib.suppress(ValueError, AttributeError):
                    entry = json.loads(line)
                    message = str(entry.get("msg") or message) if entry.get("level") in ("error", "fatal") else message
        message = message or f"{self.program} failed and does not say why"
        for number in (
            errno.ENOENT,
            errno.EACCES,
        ):  # docker's client finds its exit status by these words, in lower case
            message = message.replace(os.strerror(number), syscalls.describe(number))
        lower = message.lower()
        code = 126 if "permission denied" in lower or "not a directory" in lower else None
        if "executable file" in lower or "no such file or directory" in lower:
            code = 127
        return SetupError(f"{os.path.basename(self.program)}: {message}", code, "external")

    def remove(self) -> None:
        """Let it forget the container, and take its files away."""
        if os.path.exists(f"{self.folder}/state/{self.container_id}"):
            with contextlib.suppress(SetupError, OSError):
                self.call("delete", "--force", self.container_id)
        shutil.rmtree(self.folder, ignore_errors=True)


class ExternalProcess(RunningProcess):
    """A process of a container that ``runtime`` has made."""

    def __init__(self, process_id: str, spec: "Process", stdio: "ProcessIO", runtime: Runtime) -> None:
        super().__init__(process_id, spec, stdio)
        self._runtime = runtime
        self._child_sync.close()

    def create(self, spec: "Spec", root: "PreparedRoot") -> None:
        """Up to an init that waits. Raises SetupError, OSError."""
        runtime = self._runtime
        config, attached = _bundle(spec, root)

        def prepare() -> None:
            # A folder that root of a user namespace may look into too, with all that has been opened for the container.
            syscalls.mount("tmpfs", _PLACE, "tmpfs", 0, "mode=755,size=64k")
            for fd, path, is_directory in attached:
                if is_directory:
                    os.mkdir(path, 0o755)
                else:
                    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
                target = os.open(path, os.O_PATH | os.O_CLOEXEC)
                syscalls.move_mount(fd, target)
                os.close(target)

        _write_json(f"{runtime.folder}/config.json", config)
        arguments = ["create", "--bundle", ".", "--pid-file", "pid"]
        self._run([*arguments], [runtime.container_id], prepare)

    def exec(self, root_fd: int) -> None:
        """A process in the running container, executed when this returns. Raises SetupError, OSError."""
        runtime, name = self._runtime, f"exec-{self.process_id[:32]}"
        process = _plain_process(self._spec, root_fd)
        _write_json(f"{runtime.folder}/{name}.json", process)
        try:
            arguments = ["exec", "--detach", "--process", f"{name}.json", "--pid-file", "pid"]
            self._run(arguments, [runtime.container_id], None)
        finally:
            os.unlink(f"{runtime.folder}/{name}.json")

    def _run(self, arguments: list[str], last: list[str], prepare: "Callable[[], None] | None") -> None:
        runtime = self._runtime
        with contextlib.ExitStack() as stack:
            console = -1
            if self.stdio.child_ends is None:
                listener = _listen(f"{runtime.folder}/console")
                stack.callback(os.unlink, f"{runtime.folder}/console")
                stack.callback(listener.close)
                console = listener.fileno()
                arguments = [*arguments, "--console-socket", "console"]
            deadline = time.monotonic() + _TIMEOUT_S
            pid, pidfd = runtime.spawn([*arguments, *last], self.stdio.child_ends or (-1, -1, -1), prepare)
            self.stdio.close_child_ends()
            master = runtime.finish(pid, pidfd, deadline, console)
            if master >= 0:
                self.stdio.set_terminal(master)
                height, width = self.stdio.size
                if height and width:
                    self.stdio.resize(height, width)
            with open(f"{runtime.folder}/pid", encoding="ascii") as file:
                self.pid = int(file.read())
            os.unlink(f"{runtime.folder}/pid")
            self.pidfd = os.pidfd_open(self.pid)

    def execute(self, loop: Loop, done: "Callable[[SetupError | None], None]") -> None:
        """Let init go on."""
        runtime = self._runtime
        pid, pidfd = runtime.spawn(["start", runtime.container_id], (-1, -1, -1))

        def on_end(events: int) -> None:
            loop.unwatch(pidfd)
            status = runtime.reap(pid)
            os.close(pidfd)
            done(None if status == 0 else runtime.failure())

        loop.watch(pidfd, READ, on_end)

    def destroy(self) -> None:
        super().destroy()
        if not self.process_id:
            self._runtime.remove()


def _nothing() -> int:
    """To read nothing from. Not /dev/null: a runtime gives its standard files to the container's user, and that one is the
    machine's."""
    fd = os.memfd_create("nothing", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return fd


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    finally:
        os.close(folder)
    listener.listen(1)
    return listener


def _receive_terminal(listener_fd: int) -> int:
    listener = socket.socket(fileno=os.dup(listener_fd))
    with listener:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(_TIMEOUT_S)
            _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
    if not fds:
        raise SetupError("the runtime sent no terminal")
    os.set_inheritable(fds[0], False)
    return fds[0]


def _write_json(path: str, value: object) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        json.dump(value, file)


def _bundle(spec: "Spec", root: "PreparedRoot") -> tuple[dict[str, Any], list[tuple[int, str, bool]]]:
    """The spec without what goes beyond OCI's, and the mounts that are to be put where it says: descriptor, path, is a folder."""
    linux: dict[str, Any] = {
        key: value for key, value in spec.get("linux", {}).items() if key not in ("resources", "cgroupsPath")
    }
    linux["devices"] = [
        {key: value for key, value in one.items() if key != "source"} for one in linux.get("devices", [])
    ]
    attached = [(root.root, f"{_PLACE}/root", True)]
    rest: list[Mount] = []
    for number, one in enumerate(root.rest):
        mount = one.mount
        if one.fd >= 0:
            path = f"{_PLACE}/{number}"
            attached.append((one.fd, path, one.is_directory))
            mount = {"destination": mount["destination"], "type": "bind", "source": path, "options": mount["options"]}
        rest.append(mount)
    config = {
        **{key: value for key, value in spec.items() if key not in ("mounts", "linux", "process", "root")},
        "ociVersion": "1.0.2",
        "root": {**spec["root"], "path": f"{_PLACE}/root"},
        "process": _plain_process(spec["process"], root.root),
        "mounts": rest,
        "linux": linux,
    }
    return config, attached


def _plain_process(process: "Process", root_fd: int) -> dict[str, Any]:
    """With numbers for names, which are those of the container's own files."""
    with contextlib.ExitStack() as stack:
        files = []
        for path in ("/etc/passwd", "/etc/group"):
            try:
                fd = paths.open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
                    raise
                files.append(_NO_FILE)
                continue
            stack.callback(os.close, fd)
            files.append(f"/proc/self/fd/{fd}")
        try:
            identity = users.resolve(process.get("user", {}), *files)
        except users.UserError as error:
            raise SetupError(str(error), kind="engine") from None
    environment = list(process.get("env", []))
    if not any(entry.startswith("HOME=") and entry != "HOME=" for entry in environment):
        environment.append(f"HOME={identity.home}")
    user: dict[str, Any] = {"uid": identity.uid, "gid": identity.gid, "additionalGids": identity.groups}
    if "umask" in process.get("user", {}):
        user["umask"] = process["user"]["umask"]
    return {**process, "user": user, "env": environment}


def open_root(pid: int) -> int:
    """The root folder of a container, as its init sees it."""
    return os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
