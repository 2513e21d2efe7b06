"""The agent: holds the machine's lock, owns its VM, and answers commands on its control socket, one JSON line each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Callable
from typing import Any

from cove.agent import runstate
from cove.agent.vm import Vm
from cove.errors import CoveError
from cove.machine.paths import MachinePaths
from cove.progress import Event

log = logging.getLogger(__name__)

MAX_REQUEST = 1 << 16
TOLD_S = 5.0
"""Seconds in which whoever started an agent in vain comes to hear why."""
LAST_WORDS_S = 1.0


class Service:
    """Runs until the VM has ended."""

    def __init__(self, paths: MachinePaths) -> None:
        self._paths = paths
        self._vm: Vm | None = None
        self._state = "starting"
        self._events: list[Event] = []
        self._watchers: set[asyncio.Queue[Event | None]] = set()
        self._outcome: asyncio.Future[CoveError | None] = asyncio.get_running_loop().create_future()
        self._stopping: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[Any]] = set()
        self._told = asyncio.Event()

    async def run(self, listening: Callable[[], None]) -> None:
        """Serve until the end; `listening` is called when commands are answered."""
        self._paths.make_run_dir()
        self._paths.agent_socket.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(
                self._serve, str(self._paths.agent_socket), limit=MAX_REQUEST
            )
        finally:
            os.umask(mask)
        listening()
        try:
            if await self._start():
                assert self._vm is not None
                await self._vm.wait_exit()
                if self._stopping is not None:
                    await self._stopping
                    runstate.forget(self._paths)
                else:
                    log.warning("the VM has ended by itself")
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._told.wait(), TOLD_S)
        finally:
            self._paths.agent_socket.unlink(missing_ok=True)
            if self._vm is not None:
                await self._vm.close()
            self._server.close()
            if self._serving:  # those who asked hear the end of what they asked for
                await asyncio.wait(self._serving, timeout=LAST_WORDS_S)

    async def _start(self) -> bool:
        try:
            self._vm = Vm(self._paths)
            await self._vm.start(self._report)
        except CoveError as error:
            log.error("the machine did not start: %s %s", error.message, error.hint)
            self._settle(error)
            return False
        except Exception as error:
            log.exception("the machine did not start")
            self._settle(
                CoveError(f"the machine did not start: {error}", f"the agent's log is {self._paths.agent_log}")
            )
            return False
        self._state = "running"
        self._settle(None)
        return True

    def _settle(self, outcome: CoveError | None) -> None:
        self._outcome.set_result(outcome)
        for watcher in self._watchers:
            watcher.put_nowait(None)

    def _report(self, event: Event) -> None:
        if event.done is None or event.done == event.total:
            log.info("%s: %s", event.phase, event.text)
        self._events.append(event)
        del self._events[:-200]
        for watcher in self._watchers:
            watcher.put_nowait(event)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def send(value: dict[str, Any]) -> None:
            writer.write(json.dumps(value).encode() + b"\n")

        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            request = json.loads(await asyncio.wait_for(reader.readline(), 10))
            operation = request.get("op")
            if operation == "status":
                send({"done": True, **self._status()})
            elif operation == "ready":
                await self._watch(send, writer)
                self._told.set()
            elif operation == "stop":
                await self._stop(send)
                self._told.set()
            else:
                send(
                    {
                        "done": True,
                        "error": f"unknown request {operation!r}",
                        "hint": "restart the machine: versions differ",
                    }
                )
            await writer.drain()
        except (OSError, ValueError, AttributeError, TimeoutError):
            pass  # whoever asked has gone, or does not speak our language
        finally:
            writer.close()

    def _status(self) -> dict[str, Any]:
        state = "stopping" if self._stopping is not None else self._state
        if state == "running" and self._vm is not None and self._vm.pid is None:
            return runstate.without_agent(self._paths)  # it has died this moment
        told = self._vm.status() if self._vm else {}
        return {
            "state": "paused" if "trouble" in told and state == "running" else state,
            "agent_pid": os.getpid(),
            **told,
        }

    async def _watch(self, send: Callable[[dict[str, Any]], None], writer: asyncio.StreamWriter) -> None:
        """Pass on progress until the machine is ready, or has failed."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            if not self._outcome.done():
                for event in self._events[-1:]:
                    send({"event": event.to_json()})
                while (next_event := await queue.get()) is not None:
                    send({"event": next_event.to_json()})
                    await writer.drain()
        finally:
            self._watchers.discard(queue)
        error = self._outcome.result()
        if error is None and self._stopping is not None:
            error = CoveError(f"the machine {self._paths.name} is being stopped", "try again when it has stopped")
        if error is None and self._vm is not None:
            try:
                await self._vm.go_on()
            except CoveError as problem:
                error = problem
        send({"done": True} if error is None else {"done": True, "error": error.message, "hint": error.hint})

    async def _stop(self, send: Callable[[dict[str, Any]], None]) -> None:
        await asyncio.shield(self._outcome)
        if self._vm is None or self._outcome.result() is not None:
            send({"done": True})
            return
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._vm.stop(self._report))
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._watchers.add(queue)
        self._stopping.add_done_callback(lambda _: queue.put_nowait(None))
        while (event := await queue.get()) is not None:
            send({"event": event.to_json()})
        self._watchers.discard(queue)
        with contextlib.suppress(asyncio.CancelledError):
            problem = self._stopping.exception()
            if problem is not None:
                send({"done": True, "error": str(problem), "hint": f"the agent's log is {self._paths.agent_log}"})
                return
        send({"done": True})
