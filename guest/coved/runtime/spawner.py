"""The spawner: a small process that forks a shim for every container. One thread, no event loop, no HTTP.

Everything that shims need is loaded here once and shared with them copy-on-write; nothing is executed per container. And no
more than that: whatever is loaded here makes each fork, and each execve after one, slower, and each shim larger.
"""

import contextlib
import errno
import gc
import json
import os
import select
import signal
import socket
import sys
from typing import NoReturn

from coved.runtime import device_filter, setup, spare, syscalls, wire
from coved.runtime.cgroups import CgroupError, mount_point
from coved.runtime.errors import Refused
from coved.runtime.listening import listen
from coved.runtime.oom import spare_this
from coved.runtime.seccomp import SeccompError, compile_profile
from coved.runtime.shim import Shim
from coved.runtime.spare import Handover, Order, Spare

_REQUEST_TIMEOUT_S = 5.0
_CACHED_BYTES = 1 << 20
"""Of profiles; the usual one has some 10 kB."""
_FILES = 1 << 20
_NPTL = (32, 33)
"""Signals of the C library (nptl(7)), which Python does not know."""


class Spawner:
    """Accepts on a socket, and forks. ``lifeline``: a pipe whose other end its engine holds open, or -1."""

    def __init__(self, listener: socket.socket, shims_dir: str, lifeline: int = -1) -> None:
        self._listener = listener
        self._shims_dir = shims_dir
        self._lifeline = lifeline
        self._profiles: dict[bytes, bytes] = {}
        self._spare: Spare | None = None
        os.makedirs(shims_dir, 0o700, exist_ok=True)

    def serve(self) -> NoReturn:
        with contextlib.suppress(CgroupError):  # each shim then says so itself
            mount_point()  # remembered, so that no shim has to look for it
        with contextlib.suppress(OSError):  # the same
            device_filter.preload()
        # Objects made so far never end: keep the collector from touching their pages in the shims.
        gc.collect()
        gc.freeze()
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        if self._lifeline >= 0:
            poll.register(self._lifeline, 0)  # only its end is told
        while True:
            # With no connection open: a spare that held the one of another shim would keep that one's end from its engine.
            if self._spare is None:
                with contextlib.suppress(OSError):  # whoever asks for a container is told
                    self._fork()
            if any(fd == self._lifeline for fd, _ in poll.poll()):
                os._exit(0)  # the engine is gone, and its next one starts a spawner of its own
            connection, _ = self._listener.accept()
            with connection:
                self._handle(connection)

    def _handle(self, connection: socket.socket) -> None:
        connection.settimeout(_REQUEST_TIMEOUT_S)
        try:
            # No byte more than these two frames: what follows is for the shim. It parses the first itself.
            request, profile = wire.read_frame(connection), wire.read_frame(connection)
            self._make(Order(connection, request, self._program(profile)))
        except (OSError, wire.ProtocolError, SeccompError) as error:
            message = {"kind": "create", "message": f"the container's process cannot be made: {error}"}
            with contextlib.suppress(OSError):
                connection.sendall(wire.encode({"event": "failed", "error": message}))

    def _make(self, order: Order) -> None:
        for _ in range(2):
            one, self._spare = self._spare or self._fork(order.connection), None
            if one.give(order):
                return
        raise ChildProcessError(errno.ECHILD, "it was killed")

    def _fork(self, *connections: socket.socket) -> Spare:
        """The next shim. It inherits what is loaded and compiled by now, and none of the ``connections`` that are open."""
        made = spare.fork()
        if isinstance(made, Handover):
            for one in (self._listener, *connections):
                one.close()
            if self._lifeline >= 0:
                os.close(self._lifeline)
            _become_shim(self._shims_dir, made)
        self._spare = made
        return made

    def _program(self, profile: bytes) -> bytes:
        if not profile:
            return b""
        program = self._profiles.get(profile)
        if program is None:
            try:
                program = compile_profile(json.loads(profile))
            except SeccompError:
                raise
            except Exception as error:  # whatever a profile holds: it must not end what forks all containers
                raise SeccompError(f"the seccomp profile is not valid: {error!r}") from None
            while self._profiles and sum(map(len, self._profiles)) + len(profile) > _CACHED_BYTES:
                self._profiles.pop(next(iter(self._profiles)))
            self._profiles[profile] = program
        return program


def _become_shim(shims_dir: str, handover: Handover) -> NoReturn:
    """In the new process. It ends when its container is deleted."""
    status = 1
    try:
        os.setsid()
        syscalls.set_process_name("cove-spare")
        # Children are waited for here; the spawner leaves its own to the kernel.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        shim = Shim(shims_dir)
        connection, request, seccomp = handover.wait()
        connection.setblocking(True)  # the spawner had a timeout on it, and so it was not
        try:
            shim.create(wire.decode(request), seccomp, connection)
        except Refused as error:
            with contextlib.suppress(OSError):  # nobody is left who would want to know
                connection.sendall(wire.encode({"event": "failed", "error": error.payload}))
            os._exit(0)
        except wire.ProtocolError as error:
            payload = {"kind": "create", "message": f"the request is not valid: {error}"}
            connection.sendall(wire.encode({"event": "failed", "error": payload}))
            os._exit(0)
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


_USAGE = """usage: coved-spawner --socket PATH --shims FOLDER [OPTION...]

Forks the processes that hold containers.

  --socket PATH      unix socket to listen on
  --shims FOLDER     of the shims' sockets
  --foreground       do not go into the background
  --listener-fd N    accept on this socket, which listens there already
  --lifeline-fd N    end when the other end of this pipe is closed
  --ready-fd N       write a byte here when connections are accepted
"""


def _options(words: list[str]) -> dict[str, str]:
    """By hand: only the engine and PID 1 start this program, and argparse would stay in the memory of all shims."""
    options: dict[str, str] = {}
    left = iter(words)
    for word in left:
        value = "" if word == "--foreground" else next(left, None)
        if value is None or f"  {word} " not in _USAGE or (word.endswith("-fd") and not value.isdecimal()):
            sys.exit(_USAGE)
        options[word] = value
    if not {"--socket", "--shims"} <= options.keys():
        sys.exit(_USAGE)
    return options


def main() -> int:
    options = _options(sys.argv[1:])
    lifeline = int(options.get("--lifeline-fd", -1))
    _protect_interpreter()
    try:
        if "--listener-fd" not in options:
            listener = listen(options["--socket"])
        else:
            listener = socket.socket(fileno=int(options["--listener-fd"]))
            listener.set_inheritable(False)
        if lifeline >= 0:
            os.set_inheritable(lifeline, False)
        spawner = Spawner(listener, os.path.abspath(options["--shims"]), lifeline)
    except OSError as error:
        print(f"coved spawner: cannot listen on {options['--socket']}: {error.strerror}", file=sys.stderr)
        return 1
    os.chdir("/")  # hold no file system in use
    os.umask(0o022)  # what is made in containers must not depend on who started the engine
    if "--foreground" not in options and os.fork() != 0:
        os._exit(0)
    syscalls.set_process_name("cove-spawner")
    # Whatever was ignored where the engine was started: containers' processes shall not inherit that.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, *setup.IGNORED}:
        signal.signal(number, signal.SIG_DFL)
    for own in _NPTL:
        syscalls.reset_signal(own)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _raise_limits()
    spare_this()  # and the shims that it forks; a container's processes get a score of their own
    with contextlib.suppress(OSError):  # a kernel without keys
        syscalls.new_session_keyring()  # containers must never have the keys of whoever started the engine
    if ready := options.get("--ready-fd"):
        os.write(int(ready), b"\n")
        os.close(int(ready))
    return spawner.serve()


if __name__ == "__main__":
    sys.exit(main())
