"""The spawner: a small process that forks a shim for every container. One thread, no event loop, no HTTP.

Everything that shims need is loaded here once and shared with them copy-on-write; nothing is executed per container.
"""

import argparse
import contextlib
import gc
import hashlib
import json
import os
import signal
import socket
import sys
from typing import NoReturn

from coved.runtime import syscalls, wire
from coved.runtime.cgroups import CgroupError, mount_point
from coved.runtime.errors import Refused
from coved.runtime.seccomp import SeccompError, compile_profile
from coved.runtime.shim import Shim

_REQUEST_TIMEOUT_S = 5.0
_CACHED_PROFILES = 64
_FILES = 1 << 20


class Spawner:
    """Listens on a socket that only its own user may open, and forks."""

    def __init__(self, socket_path: str, shims_dir: str) -> None:
        self._shims_dir = shims_dir
        self._profiles: dict[bytes, bytes] = {}
        os.makedirs(shims_dir, 0o700, exist_ok=True)
        os.makedirs(os.path.dirname(socket_path) or ".", 0o755, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(socket_path)
        folder = os.open(os.path.dirname(socket_path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        old_umask = os.umask(0o177)
        self._listener.bind(f"/proc/self/fd/{folder}/{os.path.basename(socket_path)}")
        os.umask(old_umask)
        os.close(folder)
        self._listener.listen(1024)

    def serve(self) -> NoReturn:
        with contextlib.suppress(CgroupError):  # each shim then says so itself
            mount_point()  # remembered, so that no shim has to look for it
        # Objects made so far never end: keep the collector from touching their pages in the shims.
        gc.collect()
        gc.freeze()
        while True:
            connection, _ = self._listener.accept()
            with connection:
                self._handle(connection)

    def _handle(self, connection: socket.socket) -> None:
        connection.settimeout(_REQUEST_TIMEOUT_S)
        try:
            request, profile = _read_request(connection)
            program = self._program(profile)
            pid = os.fork()
        except (OSError, wire.ProtocolError, SeccompError) as error:
            message = {"kind": "create", "message": f"the container's process cannot be made: {error}"}
            with contextlib.suppress(OSError):
                connection.sendall(wire.encode({"event": "failed", "error": message}))
            return
        if pid == 0:
            self._listener.close()
            _become_shim(self._shims_dir, connection, request, program)

    def _program(self, profile: bytes) -> bytes:
        if not profile:
            return b""
        digest = hashlib.sha256(profile).digest()
        program = self._profiles.get(digest)
        if program is None:
            try:
                program = compile_profile(json.loads(profile))
            except SeccompError:
                raise
            except Exception as error:  # whatever a profile holds: it must not end what forks all containers
                raise SeccompError(f"the seccomp profile is not valid: {error!r}") from None
            if len(self._profiles) >= _CACHED_PROFILES:
                self._profiles.pop(next(iter(self._profiles)))
            self._profiles[digest] = program
        return program


def _read_request(connection: socket.socket) -> tuple[bytes, bytes]:
    """The container's configuration (left to the shim to parse) and its seccomp profile, as JSON."""
    reader = wire.FrameReader()
    bodies: list[bytes] = []
    try:
        while len(bodies) < 2:
            if not reader.receive(connection):
                raise wire.ProtocolError("the request ended early")
            while len(bodies) < 2 and (body := reader.next_body()) is not None:
                bodies.append(body)
    finally:
        reader.close()
    return bodies[0], bodies[1]


def _become_shim(shims_dir: str, connection: socket.socket, request: bytes, program: bytes) -> NoReturn:
    """In the new process. It ends when its container is deleted."""
    status = 1
    try:
        os.setsid()
        # Children are waited for here; the spawner leaves its own to the kernel.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        shim = Shim(shims_dir, program)
        try:
            shim.create(wire.decode(request))
        except Refused as error:
            connection.sendall(wire.encode({"event": "failed", "error": error.payload}))
            os._exit(0)
        except wire.ProtocolError as error:
            payload = {"kind": "create", "message": f"the request is not valid: {error}"}
            connection.sendall(wire.encode({"event": "failed", "error": payload}))
            os._exit(0)
        # Unlikely to be chosen when memory runs out: it is small, and its container would go with it.
        with contextlib.suppress(OSError):
            fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
            os.write(fd, b"-999")
            os.close(fd)
        shim.run(connection)
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()  # to the spawner's own standard error, which is the machine's log
    finally:
        os._exit(status)


def _protect_interpreter() -> None:
    """Go on as the same program, executed through a read-only mount of the interpreter.

    A container's process can reach /proc/<pid>/exe of what set it up, and write to that file once it is no longer
    executed (CVE-2019-5736). Through this mount it cannot.
    """
    if os.environ.pop("COVE_SPAWNER_PROTECTED", None) == "1":
        return
    try:
        fd = syscalls.open_tree(syscalls.AT_FDCWD, os.path.realpath(sys.executable), syscalls.OPEN_TREE_CLONE)
        syscalls.mount_setattr(fd, set_=syscalls.MOUNT_ATTR_RDONLY)
    except OSError as error:
        print(f"coved spawner: the interpreter cannot be protected: {error.strerror}", file=sys.stderr)
        return
    os.environ["COVE_SPAWNER_PROTECTED"] = "1"
    arguments = [sys.executable, "-m", "coved.runtime.spawner", *sys.argv[1:]]
    os.execve(f"/proc/self/fd/{fd}", arguments, os.environ)


def _raise_limits() -> None:
    """What containers inherit when they ask for nothing: as many files and processes as Docker's service units let them
    have. A kernel gives its first process 1024 and 4096 files only."""
    import resource

    for kind, value in ((resource.RLIMIT_NOFILE, _FILES), (resource.RLIMIT_NPROC, resource.RLIM_INFINITY)):
        _, hard = resource.getrlimit(kind)
        if hard != resource.RLIM_INFINITY and (value == resource.RLIM_INFINITY or hard < value):
            hard = value
        with contextlib.suppress(OSError, ValueError):  # without CAP_SYS_RESOURCE they stay as they are
            resource.setrlimit(kind, (hard if kind == resource.RLIMIT_NPROC else min(hard, value), hard))


def _end_with(parent: int) -> None:
    """Be killed when the process ``parent`` ends: an engine's next start brings its own (PR_SET_PDEATHSIG(2const)).

    Shims do not inherit that.
    """
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was faster
        sys.exit(1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="coved-spawner", description="Forks the processes that hold containers.")
    parser.add_argument("--socket", required=True, help="unix socket to listen on")
    parser.add_argument("--shims", required=True, help="folder of the shims' sockets")
    parser.add_argument("--foreground", action="store_true", help="do not go into the background")
    parser.add_argument("--parent", type=int, metavar="PID", help="end with this process, which must be the parent")
    parser.add_argument("--ready-fd", type=int, help="write a byte here when connections are accepted")
    arguments = parser.parse_args()
    _protect_interpreter()
    if arguments.parent is not None:
        _end_with(arguments.parent)
    try:
        spawner = Spawner(os.path.abspath(arguments.socket), os.path.abspath(arguments.shims))
    except OSError as error:
        print(f"coved spawner: cannot listen on {arguments.socket}: {error.strerror}", file=sys.stderr)
        return 1
    os.chdir("/")  # hold no file system in use
    os.umask(0o022)  # what is made in containers must not depend on who started the engine
    if not arguments.foreground and os.fork() != 0:
        os._exit(0)
    syscalls.set_process_name("cove-spawner")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _raise_limits()
    with contextlib.suppress(OSError):  # a kernel without keys
        syscalls.new_session_keyring()  # containers must never have the keys of whoever started the engine
    if arguments.ready_fd is not None:
        os.write(arguments.ready_fd, b"\n")
        os.close(arguments.ready_fd)
    return spawner.serve()


if __name__ == "__main__":
    sys.exit(main())
