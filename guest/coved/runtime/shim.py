"""The shim: one small process per container, its parent from outside. It outlives the engine and the spawner.

It owns the container's stdio, log, exit record and control socket. Forked by the spawner, never executed.
"""

import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from coved.runtime import device_filter, exitfile, leftovers, mounts, rootfs, syscalls, sysctls, wire
from coved.runtime.cgroups import Cgroup, CgroupError
from coved.runtime.control import Connection
from coved.runtime.errors import CREATE_REFUSED, Refused
from coved.runtime.logcompress import Compressor
from coved.runtime.logfile import LogFile, open_log
from coved.runtime.loop import PRIORITY, READ, Loop
from coved.runtime.namespaces import Namespaces
from coved.runtime.process import RunningProcess, SetupError
from coved.runtime.stdio import ProcessIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from coved.runtime import external
    from coved.runtime.spec import Process, Spec

_CREATE_FAILED = CREATE_REFUSED.format("unable to start container process: {}")
_EXEC_FAILED = "OCI runtime exec failed: exec failed: unable to start container process: {}: unknown"

_ACCEPT_AGAIN_S = 0.2  # after a lack of descriptors or memory
_COMPRESS_S = 0.3  # how long the end of a container may be held up by the compression of its log
_LAST_OUTPUT_S = 60.0  # how long a client of a deleted container may still take its output


def _setup_failure(error: SetupError, template: str, otherwise: str) -> Refused:
    if error.kind == "external":  # another runtime, which has its own words
        template = template.replace("runc create failed: ", "").replace("exec failed: unable", "unable")
        template = template.replace("unable to start container process: ", "")
    message = str(error) if error.kind == "engine" else template.format(error)
    if error.exit_code is not None:
        return Refused("start", message, error.exit_code)
    return Refused(otherwise, message, 126 if otherwise == "start" else None)


def _wait_for(engine: socket.socket) -> None:
    """Until what the container joins is there, which the engine makes meanwhile. Raises Refused when it will not be."""
    try:
        wire.read_frame(engine)
    except (OSError, wire.ProtocolError):
        raise Refused("create", "the engine has withdrawn its request") from None


class Shim:
    """A container: made by :meth:`create`, then served by :meth:`run` until it is deleted."""

    def __init__(self, shims_dir: str) -> None:
        self.loop = Loop()
        self.connections: list[Connection] = []
        self._shims_dir = shims_dir
        self._seccomp = b""
        self._cleanup = contextlib.ExitStack()
        self.processes: dict[str, RunningProcess] = {}
        self.exits: dict[str, dict[str, Any]] = {}
        self.warnings: list[str] = []
        self.started = False
        self._started_at_ns = 0
        self._oom_kills = 0
        self._log: LogFile | None = None
        self._on_ended: Callable[[], None] | None = None
        self._deleting = self._deleted = False
        self._going = False
        self._busy: set[ProcessIO] = set()
        self._external: external.Runtime | None = None

    # --- making the container

    def create(self, request: wire.Message, seccomp: bytes, engine: socket.socket) -> None:
        """Everything up to a process that waits before execve; ``seccomp`` is its compiled profile.

        Raises Refused, and then nothing is left behind.
        """
        self._seccomp = seccomp
        try:
            self._create(request, engine)
        except Refused:
            self._cleanup.close()
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._cleanup.close()
            raise Refused("create", f"the container's configuration is not valid: {error!r}") from None
        except SetupError as error:
            self._cleanup.close()
            raise _setup_failure(error, _CREATE_FAILED, "create") from None
        except sysctls.SysctlError as error:
            self._cleanup.close()
            raise Refused("create", CREATE_REFUSED.format(error)) from None
        except (mounts.MountError, CgroupError) as error:
            self._cleanup.close()
            raise Refused("create", _CREATE_FAILED.format(f"error during container init: {error}")) from None
        except OSError as error:
            self._cleanup.close()
            subject = f"{error.filename}: " if error.filename else ""
            message = f"error during container init: {subject}{syscalls.describe(error)}"
            raise Refused("create", _CREATE_FAILED.format(message)) from None

    def _create(self, request: wire.Message, engine: socket.socket) -> None:
        container_id: str = request["container_id"]
        if not container_id or "/" in container_id or container_id.startswith("."):
            raise Refused("create", f"'{container_id}' is no container id")
        self._spec: Spec = request["spec"]
        self._exit_file: str = request["exit_file"]
        linux = self._spec.get("linux", {})
        self._listen(container_id)
        syscalls.set_process_name(leftovers.SHIM_NAME.format(container_id))
        self.spaces = Namespaces(linux)
        if parameters := linux.get("sysctl"):
            sysctls.check(parameters, self.spaces)
        cgroups_path = linux.get("cgroupsPath") or f"/cove/{container_id}"
        leftovers.write_state(self._folder, cgroups_path, container_id)
        self.cgroup = Cgroup(cgroups_path)
        self.cgroup_fd = self.cgroup.create()
        self._cleanup.callback(self.cgroup.remove)
        resources = linux.get("resources", {})
        self.warnings += self.cgroup.apply(resources)
        if devices := resources.get("devices"):
            device_filter.restrict(self.cgroup_fd, devices)
        if log := request["log"]:
            self._log = open_log(log, lambda: Compressor(self.loop))
        root = rootfs.prepare(self._spec)
        options = request["stdio"]
        stdio = self._new_stdio(options, self._log, stdin_once=bool(options["stdin_once"]))
        program = request.get("runtime", "")
        self._going = bool(request.get("start")) and not program
        if request.get("hold"):
            _wait_for(engine)
        init = self._make_init(program, container_id, stdio, root)
        self.warnings += init.warnings
        self.init = init
        self.processes[""] = init
        if self._external is not None:
            self._external.reap_orphans(self.loop, lambda: {one.pid for one in self.processes.values()})
        if not self._going:
            self._watch_init()

    def _make_init(
        self, program: str, container_id: str, stdio: ProcessIO, root: rootfs.PreparedRoot
    ) -> RunningProcess:
        process = self._spec["process"]
        if program:
            from coved.runtime import external  # only for other runtimes

            self._external = external.Runtime(program, self._folder, container_id, self.cgroup_fd)
            made = external.ExternalProcess("", process, stdio, self._external)
            self._cleanup.callback(made.destroy)
            made.create(self._spec, root)
            root.close()
            self._watch_memory()
            return made
        self.spaces.join()
        init = RunningProcess("", process, stdio)
        self._cleanup.callback(init.destroy)
        init.spawn_init(self._spec, root, self.spaces, self.cgroup_fd, self._seccomp)
        if self.spaces.new & syscalls.CLONE_NEWPID:
            # Children of the shim (execs) are born in the container's pid namespace from now on.
            try:
                syscalls.setns(init.pidfd, syscalls.CLONE_NEWPID)
            except OSError:
                init.await_ready()  # raises what it has ended of
                raise
        root.close()  # init has its own descriptors of all that
        self._watch_memory()
        if self._going:
            # Nothing can fail here any more, and one that has ended already has no pid namespace to be joined. It is told as
            # long as it is being set up, so that it need not wait when it has been.
            init.let_go()
        init.await_ready()
        return init

    def _watch_init(self) -> None:
        """Its end is news from now on. Of one that does not wait for its start, only when that has been answered."""
        if self.init.pidfd >= 0:
            self.loop.watch(self.init.pidfd, READ, lambda events: self._on_exit(self.init))

    def _watch_memory(self) -> None:
        """The kernel tells of every change of memory.events as an exceptional condition (cgroup-v2.rst)."""
        fd = self.cgroup.open_memory_events()
        if fd >= 0:
            self.loop.watch(fd, PRIORITY, lambda events: self._on_memory_event(fd))

    def _on_memory_event(self, fd: int) -> None:
        try:
            os.pread(fd, 4096, 0)  # without a read through it, the descriptor would tell the same news again
        except OSError:  # the cgroup is gone
            self.loop.unwatch(fd)
            return
        if (kills := self.cgroup.oom_kills()) > self._oom_kills:
            self._oom_kills = kills
            for connection in list(self.connections):
                connection.send({"event": "oom"})

    def _new_stdio(self, options: dict[str, Any], log: LogFile | None, *, stdin_once: bool) -> ProcessIO:
        stdio = ProcessIO(
            self.loop, options, log, stdin_once=stdin_once, on_idle=self._on_idle, on_detach=self._on_detach
        )
        if self.spaces.new & syscalls.CLONE_NEWUSER and stdio.child_ends is not None:
            from coved.runtime import idmap

            # So that what is root inside can open /dev/stdout, and give it to the user that it becomes.
            for fd in stdio.child_ends:
                if fd >= 0:
                    os.fchown(fd, *idmap.host_root(self._spec["linux"]))
        self._busy.add(stdio)
        return stdio

    def _on_detach(self, stdio: ProcessIO) -> None:
        """A client has typed its detach keys."""
        for process_id, process in self.processes.items():
            if process.stdio is stdio:
                for connection in list(self.connections):
                    connection.send({"event": "detach", "process_id": process_id})

    def _listen(self, container_id: str) -> None:
        self._folder = f"{self._shims_dir}/{container_id}"
        try:
            os.mkdir(self._folder, 0o700)
        except FileExistsError:
            raise Refused("create", f"container {container_id} has a shim already") from None
        self._cleanup.callback(self._remove_folder)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        # Through the folder's descriptor: the path may be longer than a socket address holds.
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        listener.bind(f"/proc/self/fd/{folder}/shim.sock")
        os.chmod(f"{self._folder}/shim.sock", 0o600)
        os.close(folder)
        listener.listen(16)
        self._listener = listener
        self._watch_listener()

    def _watch_listener(self) -> None:
        if self._listener.fileno() >= 0:  # the shim may be going by now
            self.loop.watch(self._listener.fileno(), READ, lambda events: self._accept())

    def _remove_folder(self) -> None:
        for name in ("shim.sock", leftovers.STATE_FILE):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._folder}/{name}")
        with contextlib.suppress(OSError):
            os.rmdir(self._folder)

    # --- serving

    def run(self, first: socket.socket) -> None:
        """Serve until deleted. ``first`` is the connection that asked for the container."""
        self.add_connection(first)
        self.loop.run()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            # No descriptors, or no memory, for the moment; the container must not die of it. The engine that wants in stays
            # in the queue, and would be told of again at once.
            self.loop.unwatch(self._listener.fileno())
            self.loop.call_later(_ACCEPT_AGAIN_S, self._watch_listener)
            return
        self.add_connection(sock)

    def add_connection(self, sock: socket.socket) -> None:
        connection = Connection(self, sock)
        self.connections.append(connection)
        connection.send(self.state())

    def on_left(self, connection: Connection) -> None:
        """A container that is not started is known to nobody but the engine that asked for it: it ends with that engine."""
        if not self.started and not self.connections and not self._deleting:
            self.delete(connection, 0)

    def state(self) -> wire.Message:
        """What opens every connection: all that an engine has to know after a restart."""
        return {
            "event": "state",
            "pid": self.init.pid,
            "started": self.started,
            "started_at_ns": self._started_at_ns,
            "frozen": self.started and self.cgroup.is_frozen(),
            "warnings": self.warnings,
            "made": self.init.made,
            "execs": {key: one.pid for key, one in self.processes.items() if key and one.exit_code is None},
            "exits": self.exits,
            "oom_killed": self._oom_kills > 0,
            "cgroup": self.cgroup.path,
            "log_lines_dropped": self._log.dropped if self._log else 0,
        }

    def start(self, connection: Connection, number: int) -> None:
        if self.started or "" in self.exits or self.init.exit_code is not None:
            raise Refused("invalid", "the container has been started already")
        self.started = True
        self._started_at_ns = time.time_ns()
        self.init.stdio.begin()

        def done(failure: SetupError | None) -> None:
            if failure is None:
                connection.reply(number)
            else:
                connection.refuse(number, _setup_failure(failure, _CREATE_FAILED, "start"))
            self._watch_init()

        self.init.execute(self.loop, done)

    def exec(
        self,
        connection: Connection,
        number: int,
        process_id: str,
        spec: "Process",
        options: dict[str, Any],
        attachments: list[tuple[int, dict[str, Any]]],
    ) -> None:
        """Owns the attachments' descriptors once it has not raised."""
        if not process_id or process_id in self.processes or process_id in self.exits:
            raise Refused("invalid", f"exec id '{process_id}' is in use")
        if not self.started or self.init.exit_code is not None:
            raise Refused("not-running", "the container is not running")
        stdio = self._new_stdio(options, None, stdin_once=True)
        if self._external is not None:
            self._exec_external(connection, number, process_id, spec, stdio, attachments)
            return
        process = RunningProcess(process_id, spec, stdio)
        try:
            process.spawn_exec(self.init.pidfd, self.spaces, self.cgroup_fd, self._seccomp)
        except OSError as error:
            stdio.abandon()
            process.destroy()
            raise Refused("start", _EXEC_FAILED.format(syscalls.describe(error)), 126) from None
        self.processes[process_id] = process

        def done(failure: SetupError | None) -> None:
            if failure is None:
                for fd, one in attachments:
                    stdio.attach(fd, one)
                stdio.begin()
                connection.reply(number, pid=process.pid)
            else:
                for fd, _ in attachments:
                    os.close(fd)
                stdio.abandon()
                del self.processes[process_id]
                self.loop.unwatch(process.pidfd)
                process.destroy()
                connection.refuse(number, _setup_failure(failure, _EXEC_FAILED, "start"))
                return
            self.loop.watch(process.pidfd, READ, lambda events: self._on_exit(process))

        process.await_execution(self.loop, done)

    def _exec_external(
        self,
        connection: Connection,
        number: int,
        process_id: str,
        spec: "Process",
        stdio: ProcessIO,
        attachments: list[tuple[int, dict[str, Any]]],
    ) -> None:
        from coved.runtime import external

        assert self._external is not None
        process = external.ExternalProcess(process_id, spec, stdio, self._external)
        root_fd = external.open_root(self.init.pid)
        try:
            process.exec(root_fd)
        except (OSError, SetupError) as error:
            stdio.abandon()
            process.destroy()
            failure = error if isinstance(error, SetupError) else SetupError(syscalls.describe(error), 126)
            raise _setup_failure(failure, _EXEC_FAILED, "start") from None
        finally:
            os.close(root_fd)
        self.processes[process_id] = process
        for fd, one in attachments:
            stdio.attach(fd, one)
        stdio.begin()
        connection.reply(number, pid=process.pid)
        self.loop.watch(process.pidfd, READ, lambda events: self._on_exit(process))

    def find(self, process_id: str) -> RunningProcess:
        """Raises Refused when there is no such running process."""
        process = self.processes.get(process_id)
        if process is None or process.exit_code is not None:
            what = f"exec {process_id}" if process_id else "the container"
            raise Refused("not-running", f"{what} is not running")
        return process

    def kill(self, number: int, process_id: str, everyone: bool) -> None:
        process = self.find(process_id)
        if everyone and number == signal.SIGKILL:
            self.cgroup.kill()
        elif everyone:
            for pid in self.cgroup.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        else:
            try:
                process.signal(number)
            except ProcessLookupError:
                raise Refused("not-running", "the process has ended") from None

    # --- ends

    def _on_exit(self, process: RunningProcess) -> None:
        self.loop.unwatch(process.pidfd)
        process.reap()
        process.stdio.drain(lambda: self._announce(process))

    def _announce(self, process: RunningProcess) -> None:
        """All output is in the log: tell how it ended, after that is on record."""
        assert process.exit_code is not None
        oom_killed = self.cgroup.oom_kills() > 0 if not process.process_id else False
        record = {"code": process.exit_code, "oom_killed": oom_killed, "exited_at_ns": process.exited_at_ns}
        if not process.process_id:
            if self._log is not None:
                self._log.close()
            try:
                # An engine that is told commits it before it tells anyone; only without one must this be waited for.
                sync = not self.connections
                exitfile.write(self._exit_file, process.exit_code, oom_killed, process.exited_at_ns, sync=sync)
            except OSError as error:
                # A full disk must not hide that the container has ended: connected engines are still told.
                self.warnings.append(f"the exit status could not be written to {self._exit_file}: {error.strerror}")
        else:
            del self.processes[process.process_id]
        self.exits[process.process_id] = record
        wire.forget_oldest(self.exits)
        for connection in list(self.connections):
            connection.send({"event": "exit", "process_id": process.process_id, **record})
        if not process.process_id and self._on_ended is not None:
            self._on_ended()

    def delete(self, connection: Connection, number: int) -> None:
        """Kill what runs, remove the cgroup and the folder, end once clients have their output."""
        if self._deleting:
            raise Refused("invalid", "the container is being deleted already")
        self._deleting = True
        if "" in self.exits:
            self._settle_log(connection, number)
            return
        # The end of init is told by its pidfd like any other: it waits for execs, which must be reaped meanwhile.
        self._on_ended = lambda: self._settle_log(connection, number)
        self._watch_init()
        self.cgroup.kill()
        with contextlib.suppress(ProcessLookupError):
            self.init.signal(signal.SIGKILL)

    def _settle_log(self, connection: Connection, number: int) -> None:
        """Nobody may touch the log's files any more once the deletion is answered."""
        if self._log is not None and self._log.settle(lambda: self._finish_deletion(connection, number)):
            self.loop.call_later(_COMPRESS_S, self._log.give_up)
        else:
            self._finish_deletion(connection, number)

    def _finish_deletion(self, connection: Connection, number: int) -> None:
        if self._external is not None:
            self._external.remove()
        os.close(self.cgroup_fd)
        removed = self.cgroup.remove()
        self.loop.unwatch(self._listener.fileno())
        self._listener.close()
        self._remove_folder()
        if removed:
            connection.reply(number)
        else:
            message = f"the cgroup {self.cgroup.path} could not be removed: processes in it do not end"
            connection.refuse(number, Refused("timeout", message))
        connection.flush_and_close()
        # A client may still be taking its output; it gets the time of a slow one, not for ever.
        self._deleted = True
        if self._busy:
            self.loop.call_later(_LAST_OUTPUT_S, self.loop.stop)
        else:
            self.loop.stop()

    def _on_idle(self, stdio: ProcessIO) -> None:
        """All output is read and no client is left: a deleted container's shim ends with its last client."""
        self._busy.discard(stdio)
        if self._deleted and not self._busy:
            self.loop.stop()
