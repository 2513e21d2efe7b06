"""Processes of a container as its shim sees them: born, executed, ended. See also :mod:`coved.runtime.setup`."""

import contextlib
import json
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Any, NoReturn

from coved.runtime import namespaces, setup, syscalls
from coved.runtime.loop import HANGUP, READ, Loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from coved.runtime.rootfs import PreparedRoot
    from coved.runtime.spec import Process, Spec
    from coved.runtime.stdio import ProcessIO

_SETUP_TIMEOUT_S = 30.0
_MESSAGE_MAX = 256 * 1024


class SetupError(Exception):
    """The new process reported why it could not become what it should; ``exit_code`` only when execve failed.

    ``kind`` "engine": what docker's engine finds out itself and tells in its own words: there is no such user, or its working
    directory is none.
    """

    def __init__(self, message: str, exit_code: int | None = None, kind: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.kind = kind


class RunningProcess:
    """Init ("") or an exec. ``pid`` is the host's; ``exit_code`` is docker's, None while it runs."""

    def __init__(self, process_id: str, spec: "Process", stdio: "ProcessIO") -> None:
        self.process_id = process_id
        self.stdio = stdio
        self.pid = 0
        self.pidfd = -1
        self.exit_code: int | None = None
        self.exited_at_ns = 0
        self.warnings: list[str] = []
        self.made: list[str] = []
        self._spec = spec
        self._executing = self._gone_on = False
        self._sync, self._child_sync = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    # --- birth

    def spawn_init(
        self, spec: "Spec", root: "PreparedRoot", spaces: namespaces.Namespaces, cgroup_fd: int, seccomp: bytes
    ) -> None:
        """Fork into new namespaces and the cgroup. See :meth:`await_ready`. Raises SetupError, OSError."""

        def run() -> NoReturn:
            setup.run_init(self._request(seccomp), spec, root, spaces)

        self._clone(spaces.clone_flags, cgroup_fd, run)
        setup.set_oom_score(str(self.pid), self._spec)
        if spaces.new & syscalls.CLONE_NEWUSER:
            namespaces.write_id_mappings(self.pid, spec.get("linux", {}))
            self._sync.send(setup.MAPPED)

    def await_ready(self) -> None:
        """Returns when init stands before execve, or has gone on if it was let go. Raises SetupError, OSError."""
        deadline = time.monotonic() + _SETUP_TIMEOUT_S
        while True:
            message = self._receive_before(deadline)
            if message is None:
                raise SetupError("the container's init ended while it was set up (killed, or out of memory)")
            if message.get("ready"):
                return

    def spawn_exec(self, init_pidfd: int, spaces: namespaces.Namespaces, cgroup_fd: int, seccomp: bytes) -> None:
        """Fork into the cgroup; the process joins the namespaces itself and executes its program at once."""

        def run() -> NoReturn:
            setup.run_exec(self._request(seccomp), init_pidfd, spaces)

        self._clone(0, cgroup_fd, run)

    def _request(self, seccomp: bytes) -> setup.Request:
        return setup.Request(self._spec, self._child_sync, self.stdio.child_ends, self.stdio.size, seccomp)

    def _clone(self, flags: int, cgroup_fd: int, run: "Callable[[], NoReturn]") -> None:
        self.pid, self.pidfd = syscalls.clone3(flags | syscalls.CLONE_CLEAR_SIGHAND, cgroup_fd)
        if self.pid == 0:
            try:
                self._sync.close()  # the shim's alone: if that is killed, what the new process waits for ends
                run()
            finally:
                os._exit(setup.SETUP_FAILED)
        self._child_sync.close()
        self.stdio.close_child_ends()

    def _receive_before(self, deadline: float) -> dict[str, Any] | None:
        poll = select.poll()
        poll.register(self._sync, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise SetupError(f"setting up the container took more than {_SETUP_TIMEOUT_S:.0f} s (a mount that hangs?)")
        return self._receive()

    def _receive(self) -> dict[str, Any] | None:
        """One message of the new process, None at the end. Raises SetupError when it reports one."""
        try:
            data, fds, _, _ = socket.recv_fds(self._sync, _MESSAGE_MAX, 1)
        except (
            ConnectionResetError
        ):  # told once, and before what was said: it ended without having read that it may go on
            data, fds, _, _ = socket.recv_fds(self._sync, _MESSAGE_MAX, 1)
        if not data:
            return None
        message: dict[str, Any] = json.loads(data)
        if message.get("console") and fds:
            self.stdio.set_terminal(fds[0])
        if "error" in message:
            raise SetupError(message["error"], message.get("exit_code"), message.get("kind", ""))
        self.warnings += message.get("warnings", [])
        self.made += message.get("made", [])
        self._executing = self._executing or bool(message.get("executing"))
        return message

    # --- execve

    def execute(self, loop: Loop, done: "Callable[[SetupError | None], None]") -> None:
        """Let init go on, if it has not gone on yet. ``done`` is called with None when execve has succeeded."""
        self.let_go()
        self.await_execution(loop, done)

    def let_go(self) -> None:
        """It need not wait any more when it stands before execve; how that went is for :meth:`execute` to learn."""
        if not self._gone_on:
            self._gone_on = True
            with contextlib.suppress(OSError):
                self._sync.send(setup.GO)

    def await_execution(self, loop: Loop, done: "Callable[[SetupError | None], None]") -> None:
        """execve closes the process's end of the socket: its end is the news.

        What is said before waits for that, but for a terminal, which may have to be resized: while the process is being set
        up, each page that either of the two writes to has to be copied for it.
        """

        def on_event(events: int) -> None:
            failure: SetupError | None = None
            try:
                while self._receive() is not None:
                    if not events & HANGUP:
                        return
                if not self._executing:
                    failure = SetupError("the process ended while it was set up (killed, or out of memory)")
            except SetupError as error:
                failure = error
            except OSError as error:
                failure = SetupError(f"the process ended while it was set up: {error.strerror}")
            loop.unwatch(self._sync.fileno())
            self._sync.close()
            done(failure)

        loop.watch(self._sync.fileno(), READ if self.stdio.is_terminal else 0, on_event)

    # --- life and end

    def signal(self, number: int) -> None:
        """Raises ProcessLookupError when it has ended."""
        if self.pidfd < 0:
            raise ProcessLookupError
        signal.pidfd_send_signal(self.pidfd, number)

    def reap(self) -> None:
        """It has ended (its pidfd is readable): learn how."""
        _, status = os.waitpid(self.pid, 0)
        self.exited_at_ns = time.time_ns()
        code = os.waitstatus_to_exitcode(status)
        self.exit_code = code if code >= 0 else 128 - code
        os.close(self.pidfd)
        self.pidfd = -1

    def destroy(self) -> None:
        """Kill and reap, when its set-up failed."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self.reap()
        self._sync.close()
        self._child_sync.close()
