"""The engine's side of one container (asyncio): what it asks of the container's shim, and what it is told.

Every wait is bounded except ``wait``, which ends with the process or with its shim.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from coved.runtime import payloads, wire
from coved.runtime.errors import RuntimeFailure, RuntimeTimeout, ShimGone
from coved.runtime.spec import Attachment, Exit, Process, Resources, Stdio

_log = logging.getLogger(__name__)

CREATE_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 30.0

ExitCallback = Callable[[str, Exit], None]


class ShimClient:
    """One container. Made by ``SpawnerClient``.

    ``pid``: the container's init, in the host's pid namespace. ``warnings``: what was asked for and could not be had
    (a limit whose controller is missing, a resource limit that may not be raised). ``exits``: every process that has
    ended (of many execs the latest), by exec id ("" is init). ``started``: whether init has been executed, and
    ``started_at_ns`` when, in Unix time, as a shim that outlived an engine tells it. ``frozen``: whether it was paused then.
    ``made``: paths in its root that were made to mount something on, when its spec asks for them (``reportMade``).
    ``oom_killed``: whether the kernel has killed one of its processes for want of memory. ``cgroup``: its directory.
    """

    def __init__(self, container_id: str, sock: socket.socket) -> None:
        self.container_id = container_id
        self.pid = 0
        self.started = self.frozen = False
        self.started_at_ns = 0
        self.warnings: list[str] = []
        self.made: list[str] = []
        self.exits: dict[str, Exit] = {}
        self.execs: dict[str, int] = {}
        self._sock = sock
        self._fd = sock.fileno()
        self._reader = wire.FrameReader()
        self._next_id = 0
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._waiters: dict[str, asyncio.Future[Exit]] = {}
        self._callbacks: list[ExitCallback] = []
        self._oom_callbacks: list[Callable[[], None]] = []
        self._detach_callbacks: list[Callable[[str], None]] = []
        self._gone_callbacks: list[Callable[[], None]] = []
        self.oom_killed = False
        self.cgroup = ""
        self.starting: asyncio.Task[dict[str, Any]] | None = None
        self._first: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._send_lock = asyncio.Lock()
        self._sending: asyncio.Future[None] | None = None  # waits for room to send
        self._gone = False
        self._deleted = False
        asyncio.get_running_loop().add_reader(self._fd, self._on_readable)

    # --- what the engine asks for

    async def start(self) -> None:
        """Execute the container's process. Raises StartError when execve fails; the container has then ended.

        Waits for the answer only when ``SpawnerClient.create`` has asked already.
        """
        starting, self.starting = self.starting, None
        await (starting or self._request("start"))
        self.started = True

    def ask_early(self, attach: Sequence[Attachment], *, start: bool) -> list[asyncio.Task[Any]]:
        """Ask for what is to come first of all of a shim that is still being made, to save the way there and back."""
        early = CREATE_TIMEOUT_S + REQUEST_TIMEOUT_S
        create_task = asyncio.get_running_loop().create_task
        tasks: list[asyncio.Task[Any]] = [create_task(self.attach("", one, timeout_s=early)) for one in attach]
        if start:
            self.starting = create_task(self._request("start", timeout_s=early))
        return tasks

    async def exec(self, exec_id: str, process: Process, *, stdio: Stdio, attach: Sequence[Attachment] = ()) -> int:
        """Run another process in the container; its pid in the host's pid namespace. Raises StartError, NotRunning."""
        reply = await self._request(
            "exec",
            {
                "process_id": exec_id,
                "process": process,
                "stdio": payloads.of_stdio(stdio),
                "attach": [payloads.of_attachment(one) for one in attach],
            },
            [one.fd for one in attach],
        )
        pid = int(reply["pid"])
        if exec_id not in self.exits:
            self.execs[exec_id] = pid
        return pid

    async def attach(
        self, process_id: str, attachment: Attachment, *, gate: int = -1, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> tuple[int, int] | None:
        """Hand a client's connection to the shim; ``process_id`` "" is init. Before ``start`` no byte is missed.

        ``gate``: the read end of a pipe, which stays the caller's. Until its other end is closed, the process's output
        is held back; what comes then follows what the log had when the client was attached: all before the place in
        it that is returned, inode and bytes. None when nothing is written any more.
        """
        arguments = {"process_id": process_id, "attach": [payloads.of_attachment(attachment)]}
        fds = [attachment.fd, gate] if gate >= 0 else [attachment.fd]
        reply = await self._request("attach", arguments, fds, timeout_s=timeout_s)
        position = reply.get("log")
        return (int(position[0]), int(position[1])) if position else None

    async def resize(self, process_id: str, height: int, width: int) -> None:
        """Set a terminal's size in character cells."""
        await self._request("resize", {"process_id": process_id, "height": height, "width": width})

    async def kill(self, signal: int, *, process_id: str = "", all: bool = False) -> None:
        """Send a signal to one process, or to every process of the container. Raises NotRunning."""
        await self._request("kill", {"process_id": process_id, "signal": int(signal), "all": all})

    async def pause(self) -> None:
        """Freeze all processes of the container; returns when they are frozen."""
        await self._request("pause")

    async def resume(self) -> None:
        """Thaw what :meth:`pause` froze."""
        await self._request("resume")

    async def update(self, resources: Resources) -> list[str]:
        """Change limits of the running container; returns warnings about limits that could not be had."""
        return list((await self._request("update", {"resources": resources})).get("warnings", []))

    async def wait(self, process_id: str = "") -> Exit:
        """How a process ended, once its output is in the log. Raises ShimGone when the shim ends first."""
        ended = self.exits.get(process_id)
        if ended is not None:
            return ended
        self._check_alive()
        waiter = self._waiters.get(process_id)
        if waiter is None:
            waiter = self._waiters[process_id] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(waiter)

    def on_exit(self, callback: ExitCallback) -> None:
        """Call ``callback(process_id, exit)`` for every process that ends; at once for those that have ended."""
        self._callbacks.append(callback)
        for process_id, ended in self.exits.items():
            callback(process_id, ended)

    def on_oom(self, callback: Callable[[], None]) -> None:
        """Call ``callback()`` whenever the kernel kills a process of the container for want of memory."""
        self._oom_callbacks.append(callback)

    def on_detach(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(process_id)`` whenever a client has typed its detach keys."""
        self._detach_callbacks.append(callback)

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call ``callback()`` when the shim ends, however it does, unless ``close`` was called before; at once when it has."""
        if self._gone:
            callback()
        else:
            self._gone_callbacks.append(callback)

    def catch_up(self) -> None:
        """Take in what the shim has said already. It tells of an end before it closes the streams of clients: who has
        seen that, and asks, must not be faster than the news."""
        if not self._gone:
            self._on_readable()

    @property
    def gone(self) -> bool:
        """Whether the shim has ended (or the connection to it)."""
        return self._gone

    async def delete(self) -> None:
        """Take everything away: processes still running are killed, the cgroup is removed, the shim ends."""
        if self._deleted:
            return
        await self._request("delete")
        self._deleted = True
        self.close()

    def close(self) -> None:
        """Let go of the connection; the shim and its container go on."""
        self._gone_callbacks.clear()
        self._fail(ShimGone(f"the connection to the shim of container {self.container_id} was closed"))

    # --- the connection

    async def first_message(self, timeout_s: float) -> None:
        """Wait for the shim's report of its state, which opens every connection."""
        try:
            await asyncio.wait_for(asyncio.shield(self._first), timeout_s)
        except TimeoutError:
            self.close()
            raise RuntimeTimeout(
                f"the shim of container {self.container_id} gave no answer within {timeout_s:.0f} s"
            ) from None
        except RuntimeFailure:
            self.close()
            raise

    async def hold(self, after: "asyncio.Future[Any]") -> None:
        """Let a shim that is being made go on when ``after`` is done. Raises what that raises, and then the shim is gone."""
        try:
            await asyncio.shield(after)
        except BaseException:
            await self._withdraw()
            raise
        with contextlib.suppress(OSError):  # it has failed meanwhile: its first message says why
            await self.send(wire.frame(b""))

    async def _withdraw(self) -> None:
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_gone(lambda: _finish(gone))
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(gone, REQUEST_TIMEOUT_S)
        if self._first.done():
            self._first.exception()  # the shim's answer to that, which nobody waits for

    async def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send a whole frame, its descriptors with the first byte. Raises OSError."""
        view = memoryview(data)
        async with self._send_lock:
            while view:
                if self._gone:
                    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
                try:
                    sent = socket.send_fds(self._sock, [view], list(fds)) if fds else self._sock.send(view)
                except BlockingIOError:
                    await self._writable()
                    continue
                fds = ()
                view = view[sent:]

    async def _writable(self) -> None:
        """Returns when there is room to send, or the connection has ended."""
        loop = asyncio.get_running_loop()
        ready = self._sending = loop.create_future()
        loop.add_writer(self._fd, _finish, ready)
        try:
            await ready
        finally:
            self._sending = None
            if not self._gone:  # else the number may be another's by now
                loop.remove_writer(self._fd)

    async def _request(
        self,
        operation: str,
        arguments: dict[str, Any] | None = None,
        fds: Sequence[int] = (),
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> dict[str, Any]:
        self._check_alive()
        self._next_id += 1
        number = self._next_id
        message: dict[str, Any] = {"id": number, "op": operation, **(arguments or {})}
        if fds:
            message["fds"] = len(fds)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[number] = future
        try:
            async with asyncio.timeout(timeout_s):
                await self.send(wire.encode(message), fds)
                reply = await future
        except TimeoutError:
            raise RuntimeTimeout(
                f"the shim of container {self.container_id} did not answer '{operation}' within {timeout_s:.0f} s"
            ) from None
        except OSError as error:
            raise ShimGone(f"the shim of container {self.container_id} is gone: {error.strerror}") from None
        finally:
            self._replies.pop(number, None)
            if future.done() and not future.cancelled():
                future.exception()
        if "error" in reply:
            raise payloads.to_error(reply["error"])
        return reply

    def _check_alive(self) -> None:
        if self._gone:
            raise ShimGone(f"the shim of container {self.container_id} is gone")

    def _on_readable(self) -> None:
        try:
            more = self._reader.receive(self._sock)
            while (item := self._reader.next_message()) is not None:
                message, fds = item
                for fd in fds:
                    os.close(fd)
                self._dispatch(message)
        except BlockingIOError:
            return
        except (OSError, wire.ProtocolError) as error:
            self._fail(ShimGone(f"the shim of container {self.container_id} is gone: {error}"))
            return
        if not more:
            self._fail(ShimGone(f"the shim of container {self.container_id} has ended"))

    def _dispatch(self, message: dict[str, Any]) -> None:
        event = message.get("event")
        if event == "exit":
            self._record_exit(str(message["process_id"]), payloads.to_exit(message))
        elif event == "oom":
            self._record_oom()
        elif event == "detach":
            for callback in self._detach_callbacks:
                callback(str(message["process_id"]))
        elif event == "state":
            self._load_state(message)
            if not self._first.done():
                self._first.set_result(message)
        elif event == "failed":
            if not self._first.done():
                self._first.set_exception(payloads.to_error(message["error"]))
        else:
            future = self._replies.get(message.get("id", 0))
            if future is not None and not future.done():
                future.set_result(message)

    def _load_state(self, state: dict[str, Any]) -> None:
        self.pid = int(state["pid"])
        self.started = bool(state["started"])
        self.started_at_ns = int(state.get("started_at_ns", 0))
        self.frozen = bool(state.get("frozen"))
        self.warnings = list(state["warnings"])
        self.made = list(state.get("made", ()))
        self.execs = {str(key): int(value) for key, value in state["execs"].items()}
        self.oom_killed = bool(state.get("oom_killed"))
        self.cgroup = str(state.get("cgroup", ""))
        for process_id, ended in state["exits"].items():
            self._record_exit(str(process_id), payloads.to_exit(ended))

    def _record_exit(self, process_id: str, ended: Exit) -> None:
        if process_id in self.exits:
            return
        self.exits[process_id] = ended
        self.execs.pop(process_id, None)
        wire.forget_oldest(self.exits)
        waiter = self._waiters.pop(process_id, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(ended)
        for callback in self._callbacks:
            try:
                callback(process_id, ended)
            except Exception:
                _log.exception("a callback for the end of %s/%s failed", self.container_id, process_id)

    def _record_oom(self) -> None:
        self.oom_killed = True
        for callback in self._oom_callbacks:
            callback()

    def _fail(self, error: RuntimeFailure) -> None:
        if self._gone:
            return
        self._gone = True
        with contextlib.suppress(RuntimeError):  # the event loop may be closed already at interpreter exit
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._fd)
            loop.remove_writer(self._fd)
        if self._sending is not None:
            _finish(self._sending)
        self._sock.close()
        self._reader.close()
        waiting: list[asyncio.Future[Any]] = [self._first, *self._replies.values(), *self._waiters.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody may be waiting, and that is no mistake
        self._waiters.clear()
        for callback in self._gone_callbacks:
            callback()


def _finish(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
