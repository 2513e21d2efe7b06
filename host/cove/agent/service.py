"""The agent: owns a machine's VM, serves docker's clients, and answers commands on its control socket, one JSON line each.

It begins with a start of the VM and ends when it is told to stop, or when that first start fails. A VM that ends by itself does not
end the agent: it rests, and the next client starts the VM again (docs/decisions/0024).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from cove.agent import logs, shutdown, threads, unattended
from cove.agent.client import HOLD, SETTINGS, SUSPEND, SUSPEND_ANYWAY, WATCH
from cove.agent.clock import ClockJumps
from cove.agent.idle import Idle, Wish
from cove.agent.place import Door, Place
from cove.agent.supervisor import Listeners
from cove.agent.vm import Vm, one_of
from cove.errors import AgentError, CoveError, MachineInUse, TransportError
from cove.forward.docker_socket import DockerSocket
from cove.local import processes
from cove.local.serving import Server, serve
from cove.machine import effective, runstate, suspended
from cove.machine.paths import MachinePaths
from cove.machine.running import vm_may_run
from cove.progress import REACHABLE, Event
from cove.transport.base import Stream

log = logging.getLogger(__name__)

MAX_REQUEST = 1 << 16
TOLD_S = 5.0
"""Seconds in which whoever started an agent in vain comes to hear why."""
LAST_WORDS_S = 1.0
LEAVING_S = 0.5
RETAKING_S = 2.0
TAKING_OVER_S = 60.0
"""In which the engine of a VM that ran before answers, so that it can be stopped in order."""
MAX_UNTOLD = 256
"""Events for somebody who watches and does not listen."""
TIDY_S = 3.0
"""An image that nobody waits for is written, or its unfinished pieces removed, in less."""

Send = Callable[[dict[str, Any]], None]


class Left:
    """A client that waits no more: it has gone, or `asked` that the start be given up."""

    def __init__(self, asked: bool) -> None:
        self.asked = asked


class Service:
    """One agent. All but `_open_stream` happens in the event loop."""

    def __init__(self, paths: MachinePaths, listeners: Listeners) -> None:
        self._paths = paths
        self._listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._vm: Place | None = None
        self._door: Door | None = None
        self._state = "resting"
        """"resting" (there is no VM), "starting", or "running"."""
        self._wanted = asyncio.Event()
        self._ending = False
        self._starting: asyncio.Task[None] | None = None
        self._given_up = False
        self._hung = asyncio.Event()
        """Set by a start that has found a VM to which nobody can speak, and ended it."""
        self._events: list[Event] = []
        self._watchers: set[asyncio.Queue[Event | Left | None]] = set()
        self._onlookers: dict[asyncio.Queue[Event | None], asyncio.StreamWriter] = {}
        """Who is told of everything and waits for nothing: None is a change of the state."""
        self._callers = 0
        """Docker's clients that wait for the start."""
        self._outcome: asyncio.Future[CoveError | None] = self._loop.create_future()
        self._stopping: asyncio.Task[None] | None = None
        self._forced = asyncio.Event()
        """Its data are to go: set before a stop, or while one is under way."""
        self._suspending: asyncio.Task[None] | None = None
        self._unasked: asyncio.Task[None] | None = None
        """The last one that nobody has asked for."""
        self._used_again = asyncio.Event()
        """Somebody came after a suspension began that nobody has asked for."""
        lost = AgentError(
            f"the machine {paths.name} or its engine ended before it answered: what was asked for may have been done",
            f"see how it is with: cove machine status {paths.name}",
        )
        self._docker = DockerSocket(listeners.docker, self._open_stream, self._clients_changed, lost)
        self._holders = 0
        """Those who use the machine in another way than through its engine: it is not suspended for want of use, nor ended for an
        engine that does not answer."""
        self._idle = Idle(self._wish, self._unused, self._suspend_unused)
        self._retaking: asyncio.Task[None] | None = None
        self._renew_later = False
        self._server: Server | asyncio.Server | None = None
        self._serving: set[asyncio.Task[Any]] = set()
        self._told = asyncio.Event()
        self._clock = ClockJumps(self._clock_jumped)
        self._shutdown = shutdown.of_this_computer(self.end)
        self._unasked_stop: asyncio.Task[None] | None = None

    async def run(self, listening: Callable[[], None], *, again: bool = False) -> None:
        """Serve until the end; `listening` is called when commands are answered.

        With `again` an earlier agent has died: its VM is taken over, or else nobody has asked for one yet.
        """
        if not again or self._vm_is_left():
            self._begin()
        self._server = await serve(self._listeners.agent, self._serve, MAX_REQUEST)
        self._docker.start()
        listening()
        try:
            await self._live(again)
            # Only now: after a failure another agent goes on with the same sockets, which this would shut for it too.
            self._listeners.remove()
            self._docker.close()
        finally:
            self._clock.close()
            if self._vm is not None:
                await self._vm.close()
            self._shutdown.close()
            self._server.close()
            self._dismiss_onlookers()
            if self._serving:  # those who asked hear the end of what they asked for
                await asyncio.wait(self._serving, timeout=LAST_WORDS_S)

    def _vm_is_left(self) -> bool:
        """Whether a VM runs that is to be taken over."""
        return vm_may_run(self._paths) and suspended.load(self._paths) is None

    async def _live(self, started_once: bool) -> None:
        while True:
            await self._wanted.wait()
            if self._ending:
                if not self._outcome.done():
                    self._settle(self._being_stopped())
                await self._stopped()
                return
            if await self._start():
                started_once = True
                vm = self._vm
                assert vm is not None
                await vm.wait_exit()
                if self._stopping is not None:
                    await self._stopping
                    runstate.forget(self._paths)
                    return
                await self._suspended()
                if self._vm is not vm:
                    continue
                log.warning("the VM has ended by itself")
                unattended.note_crash(self._paths, seen=True)
            elif self._stopping is not None or not started_once:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._told.wait(), TOLD_S)
                await self._stopped()
                return
            await self._rest()

    async def _stopped(self) -> None:
        """Wait for what `stop` does, of which whoever has asked for it is told."""
        if self._stopping is not None:
            await asyncio.wait([self._stopping])

    def _begin(self) -> None:
        """Start the VM unless that is under way or done; `_outcome` tells how it ends."""
        if self._state == "resting":
            self._state = "starting"
            self._state_changed()
            self._events.clear()
            if self._outcome.done():
                self._outcome = self._loop.create_future()
            self._wanted.set()

    async def _rest(self, *, quietly: bool = False) -> None:
        """Have no VM until somebody wants one. What follows from it is decided before anybody else may run.

        ``quietly``: whoever wants one is not told of its start, which takes a moment.
        """
        if not quietly:
            self._paths.down.touch()
        self._idle.cancel()
        self._shutdown.close()
        vm, self._vm, self._door = self._vm, None, None
        self._wanted.clear()
        self._state = "resting"
        self._state_changed()
        if vm is not None:
            await vm.close()

    async def _start(self) -> bool:
        self._given_up = False
        self._hung.clear()
        name = self._paths.name
        try:
            self._starting = self._loop.create_task(self._start_vm())
            await self._starting
        except asyncio.CancelledError:
            if not self._given_up:
                raise
            log.info("the start was given up")
            self._settle(
                CoveError(
                    f"the start of machine {name} was given up", f"start it again with: cove machine start {name}"
                )
            )
            return False
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
        assert self._vm is not None
        self._door = self._vm.door
        self._state = "running"
        self._paths.down.unlink(missing_ok=True)
        self._vm.tell_of_trouble(self._state_changed)
        self._settle(None)
        if self._vm.link is not None:
            self._vm.link.on_level = self._idle.look
        self._idle.look()
        self._shutdown.await_it()
        if self._renew_later:
            self._renew_later = False
            await self._renew()
        return True

    def _place(self) -> Place:
        if self._is_elsewhere:
            from cove.agent import far  # no VM needs it, nor it a VM

            return far.place(self._paths)
        return Vm(self._paths, self._is_held, self._hung.set)

    async def _start_vm(self) -> None:
        self._vm = self._place()
        await self._vm.start(self._report)
        if self._vm.outlived_its_policy:
            # Otherwise a machine that sleeps and wakes and never boots would go by the old one for ever.
            self._report(
                Event("boot", "your administrator's policy has changed since it was suspended: it starts anew")
            )
            await self._vm.stop(self._report)
            await self._vm.close()
            runstate.forget(self._paths)  # it was told to end
            self._vm = self._place()
            await self._vm.start(self._report)

    def _settle(self, outcome: CoveError | None) -> None:
        self._outcome.set_result(outcome)
        self._state_changed()
        for watcher in self._watchers:
            watcher.put_nowait(None)

    def _give_up(self, *, anyway: bool = False) -> bool:
        """End a start that is under way, and say whether that is done. One of a VM that ran before ends with `anyway` alone; that VM goes
        on."""
        if self._starting is None or self._starting.done() or self._vm is None or (self._vm.adopted and not anyway):
            return False
        self._given_up = True
        self._starting.cancel()
        return True

    def _report(self, event: Event) -> None:
        if event.done is None or event.done == event.total:
            log.info("%s: %s", event.phase, event.text)
        self._events.append(event)
        del self._events[:-200]
        for watcher in self._watchers:
            watcher.put_nowait(event)
        self._tell_onlookers(event)

    def _state_changed(self) -> None:
        self._tell_onlookers(None)

    def _tell_onlookers(self, item: Event | None) -> None:
        for queue, writer in self._onlookers.items():
            try:
                queue.put_nowait(item)
            except asyncio.QueueFull:  # it does not listen
                writer.transport.abort()

    def _so_far(self) -> list[Event]:
        """What somebody who joins a start is told first: the step that is shown, and after it that sshd answers by now."""
        shown = [event for event in self._events if event.phase != REACHABLE]
        return [*shown[-1:], *(event for event in self._events[-1:] if event.phase == REACHABLE)]

    def _clock_jumped(self) -> None:
        if self._vm is not None and (self._vm.link is not None or self._state == "running"):
            self._vm.clock_jumped()
            # This computer may have woken up elsewhere.
            task = self._loop.create_task(self._renew())
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _renew(self) -> CoveError | None:
        """Look at proxies and certificates again, and tell a VM that runs."""
        try:
            if self._vm is not None and self._state == "running":
                await self._vm.renew()
            elif self._state == "starting":
                self._renew_later = True  # the start has looked at them already
        except CoveError as error:
            log.error("the engine keeps the proxies and certificates that it has: %s", error)
            return error
        return None

    def _look(self) -> None:
        """A client has come: what nothing tells of is looked at now."""
        self._clock.look()
        if self._vm is None or self._state != "running":
            return
        self._vm.seen()
        if self._vm.lost_ports and self._retaking is None:
            self._retaking = self._loop.create_task(self._vm.retake_ports())
            self._retaking.add_done_callback(self._retook)

    def _retook(self, task: asyncio.Task[None]) -> None:
        self._retaking = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("lost ports could not be taken back: %s", error)

    async def _retake_ports(self) -> None:
        """For somebody who looks; a hypervisor that does not answer keeps nobody waiting."""
        self._look()
        if self._retaking is not None:
            await asyncio.wait({self._retaking}, timeout=RETAKING_S)

    def _open_stream(self) -> Stream:
        """A stream to the engine, whose VM is started for it when there is none; in the thread of a docker client."""
        self._loop.call_soon_threadsafe(self._look)
        tried = None
        while True:
            door = self._door or asyncio.run_coroutine_threadsafe(self._up(), self._loop).result()
            try:
                return door.open()
            except TransportError:
                if door is self._door or door is tried:
                    raise
                tried = door  # the VM ended meanwhile

    async def _suspended(self) -> None:
        """Wait for a suspension that is under way."""
        if self._suspending is not None:
            await asyncio.wait([self._suspending])

    async def _awake(self, send: Send = lambda _: None) -> None:
        """For somebody who comes while the machine is being suspended: wait for the end of that, and pass on its progress.

        When nobody has asked for it, it is given up: that takes a moment, and to save and load its memory may take minutes.
        """
        if self._suspending is not None:
            self._used_again.set()
            await self._pass_on(self._suspending, send)

    async def _pass_on(self, work: asyncio.Future[Any], send: Send) -> None:
        """Pass on progress until the work is done."""
        queue: asyncio.Queue[Event | Left | None] = asyncio.Queue()
        self._watchers.add(queue)
        work.add_done_callback(lambda _: queue.put_nowait(None))
        while isinstance(event := await queue.get(), Event) or not work.done():  # the end of a start is told as well
            if isinstance(event, Event):
                send({"event": event.to_json()})
        self._watchers.discard(queue)

    async def _up(self) -> Door:
        self._callers += 1
        try:
            await self._awake()
            self._begin()
            error = await asyncio.shield(self._outcome)
        finally:
            self._callers -= 1
        if error is None and (self._vm is None or self._vm.door is None or self._stopping is not None):
            error = self._being_stopped()
        if error is not None:
            raise error
        assert self._vm is not None and self._vm.door is not None
        return self._vm.door

    def _being_stopped(self) -> CoveError:
        return CoveError(f"the machine {self._paths.name} is being stopped", "try again when it has stopped")

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
                await self._retake_ports()
                send({"done": True, **self._status()})
            elif operation == "ready":
                await self._watch(send, reader, writer)
                self._told.set()
            elif operation in (SUSPEND, SUSPEND_ANYWAY):
                await self._suspend(send, anyway=operation == SUSPEND_ANYWAY)
                self._told.set()
            elif operation == WATCH:
                await self._be_watched(send, reader, writer)
            elif operation == HOLD:
                await self._hold(send, reader, writer)
            elif operation == SETTINGS:
                self._idle.settings_changed()
                send(_last(await self._renew()) | {"overridden": effective.overridden()})
            elif operation == "stop":
                in_order, forced = request.get("in_order", True), request.get("forced", False)
                await self._stop(send, in_order=in_order, forced=forced)
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
        if state == "running" and self._suspending is not None:
            state = "suspending"
        runs = state in ("running", "suspending")
        if state == "resting" or (runs and self._vm is not None and self._vm.has_ended):
            # It has died, perhaps this moment.
            told = unattended.status(self._paths, looked=runs)
            return told | {"agent_pid": os.getpid()} if "agent_pid" in told else told
        told = self._vm.status() if self._vm else {}
        return {
            "state": "paused" if "trouble" in told and state == "running" else state,
            "agent_pid": os.getpid(),
            "idle_since": self._idle.since,
            **told,
        }

    async def _watch(self, send: Send, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Start the VM when there is none, and pass on progress until the machine is ready, has failed, or the client leaves."""
        await self._awake(send)
        if self._ending and self._state == "resting":
            send(_last(self._being_stopped()))
            return
        self._begin()
        outcome = self._outcome
        if not outcome.done():
            queue: asyncio.Queue[Event | Left | None] = asyncio.Queue()
            self._watchers.add(queue)
            listening = self._loop.create_task(_hear(reader, queue))
            try:
                for event in self._so_far():
                    send({"event": event.to_json()})
                while (item := await queue.get()) is not None:
                    if isinstance(item, Left):
                        self._watchers.discard(queue)
                        if not await self._leave(item, send):
                            return
                        break
                    send({"event": item.to_json()})
                    await writer.drain()
            finally:
                listening.cancel()
                self._watchers.discard(queue)
        error = outcome.result()
        if error is None and self._stopping is not None:
            error = self._being_stopped()
        if error is None:
            await self._retake_ports()
        if error is None and self._vm is not None:
            try:
                await self._vm.go_on()
            except CoveError as problem:
                error = problem
        send(_last(error))

    async def _be_watched(self, send: Send, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Tell of the status and of progress until the client leaves, or the agent does."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(MAX_UNTOLD)

        def look_up(_: object) -> None:
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(None)

        self._onlookers[queue] = writer
        gone = self._loop.create_task(reader.read())
        gone.add_done_callback(look_up)
        try:
            item: Event | None = None
            while not gone.done():
                send({"status": self._status()} if item is None else {"event": item.to_json()})
                await writer.drain()
                item = await queue.get()
        finally:
            gone.cancel()
            del self._onlookers[queue]

    def _dismiss_onlookers(self) -> None:
        """The agent ends: who watches is not waited for."""
        for writer in self._onlookers.values():
            writer.close()

    async def _leave(self, client: Left, send: Send) -> bool:
        """Let go of a client that waits no more. Whether the start ends for it, as it does when nobody else waits."""
        if not client.asked:
            return False
        if self._watchers or self._callers:
            send(_last(CoveError("somebody else waits for the machine: its start goes on")))
            return False
        self._give_up()
        await asyncio.shield(self._outcome)
        return True

    async def _suspend(self, send: Send, *, anyway: bool) -> None:
        while self._suspending is not None and (unasked := self._suspending) is self._unasked:
            # It is given up for whoever comes meanwhile; this one was asked for, and is not.
            await self._pass_on(unasked, send)
            if not unasked.cancelled() and unasked.exception() is None:
                send({"done": True})
                return
        if (error := await self._taken_over(send)) is not None:
            send(_last(error))
            return
        vm = self._vm
        if self._state != "running" or vm is None or self._stopping is not None:
            send(_last(self._not_running()))
            return
        if not anyway and (clients := await self._still_connected()):
            # Theirs would end as if what they wait for had, and the next thing that they ask would wake the machine.
            send(_last(_in_use(self._paths.name, clients)))
            return
        if self._suspending is None:
            self._suspending = self._loop.create_task(self._put_to_sleep(vm, anyway=anyway))
        await self._follow(self._suspending, send)

    async def _taken_over(self, send: Send) -> CoveError | None:
        """Wait for a start that is under way; a VM that runs and that no start has come to have is begun with. How that ended."""
        if self._stopping is not None:
            return self._being_stopped()
        if self._state == "resting" and self._vm_is_left():
            self._begin()
        if self._state != "starting":
            return None
        outcome = self._outcome
        await self._pass_on(outcome, send)
        return outcome.result()

    def _not_running(self) -> CoveError:
        return CoveError(f"the machine {self._paths.name} is not running")

    async def _still_connected(self) -> int:
        """How many docker clients are, but for those that are just leaving."""
        for _ in range(10):
            if not self._docker.clients:
                break
            await asyncio.sleep(LEAVING_S / 10)
        return self._docker.clients

    async def _put_to_sleep(self, vm: Place, *, anyway: bool, idle_since: float | None = None) -> None:
        """From its end on the VM is as before, or there is none. Clients that come meanwhile wait for that."""
        self._door = None
        self._state_changed()
        try:
            if self._stopping is not None or self._vm is not vm:
                raise self._not_running()
            if self._holders and idle_since is not None:
                raise CoveError(f"the machine {self._paths.name} is in use")
            # Only now: whoever has come before the door was shut is counted, whoever comes after it waits.
            if not anyway and (clients := self._docker.clients):
                raise _in_use(self._paths.name, clients)
            await vm.suspend(self._report, idle_since, None if idle_since is None else self._used_again)
            await self._rest(quietly=idle_since is not None)
        except BaseException:
            if self._vm is vm:
                self._door = vm.door
            if idle_since is not None and self._used_again.is_set():
                self._idle.cancel()  # and counts anew, even if whoever came is nobody who stays
                self._idle.look()
            raise
        finally:
            self._suspending = None
            self._state_changed()

    def _clients_changed(self) -> None:
        """In the thread of a docker client."""
        with contextlib.suppress(RuntimeError):  # the agent has ended
            self._loop.call_soon_threadsafe(self._idle.look)

    def _wish(self) -> Wish:
        try:
            found = effective.load(self._paths.settings)
        except CoveError as error:
            log.warning("the machine is not suspended by itself: %s", error)
            return Wish(0)
        return Wish(found.suspend_after, found.suspend_running)

    def _unused(self, running: bool) -> bool:
        """Whether nobody uses the machine; ``running``: containers that run do not count, as long as they publish no port."""
        vm = self._vm
        if self._state != "running" or vm is None or vm.link is None or not vm.can_be_suspended:
            return False
        if self._stopping is not None or self._holders or self._docker.clients:
            return False
        return not vm.link.publishes and vm.link.level in (("idle", "running") if running else ("idle",))

    def _suspend_unused(self, since: float) -> None:
        if self._vm is None or self._suspending is not None:
            return
        log.info("nobody has used the machine for %.0f s: it is suspended", time.time() - since)
        self._used_again.clear()
        self._suspending = self._loop.create_task(self._put_to_sleep(self._vm, anyway=False, idle_since=since))
        self._suspending.add_done_callback(_unused_and_awake)
        self._unasked = self._suspending

    async def _hold(self, send: Send, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep the machine from being suspended by itself, and from being ended for its engine, until the client goes."""
        self._holders += 1
        self._idle.look()
        gone = self._loop.create_task(reader.read())
        try:
            await self._awake()
            if not self._ending:
                self._begin()
            await asyncio.wait((gone, self._outcome), return_when=asyncio.FIRST_COMPLETED)
            if self._outcome.done():
                send(_last(self._outcome.result()))
                await writer.drain()
            await gone
        finally:
            gone.cancel()
            self._holders -= 1
            self._idle.look()

    def _is_held(self) -> bool:
        return self._holders > 0

    async def _follow(self, work: asyncio.Task[None], send: Send) -> None:
        """Pass on progress until the work is done, and how it ended."""
        await self._pass_on(work, send)
        problem = None if work.cancelled() else work.exception()
        if problem is None:
            send({"done": True})
        elif isinstance(problem, CoveError):
            send(_last(problem))
        else:
            send({"done": True, "error": str(problem), "hint": f"the agent's log is {self._paths.agent_log}"})

    async def _stop(self, send: Send, *, in_order: bool, forced: bool) -> None:
        """``in_order``: one that is suspended goes on for it. ``forced``: its data are to go."""
        await self._awake(send)
        if in_order and self._state in ("resting", "starting") and suspended.load(self._paths) is not None:
            self._begin()  # what runs in it is to end in order
            outcome = self._outcome
            await self._pass_on(outcome, send)
            if (error := outcome.result()) is not None:
                send(_last(error))
                return
        if self._stopping is None or (self._stopping.done() and self._stopping.exception() is not None):
            self._forced.clear()
            self._stopping = self._loop.create_task(self._end())
            self._stopping.add_done_callback(self._stays)
            self._state_changed()
        if forced:
            self._forced.set()
        await self._follow(self._stopping, send)

    def _stays(self, stopping: asyncio.Task[None]) -> None:
        """What runs on another computer could not be stopped, which may be out of reach: it goes on, and so does this."""
        if (
            self._stopping is stopping
            and self._is_elsewhere
            and self._state == "running"
            and not _has_succeeded(stopping)
        ):
            self._stopping = None
            self._state_changed()

    def end(self) -> None:
        """Stop the VM in order and end, unless that is under way: the system or somebody ends this process. One that is suspended stays
        so."""
        if self._unasked_stop is None or self._unasked_stop.done():
            log.info("the agent is told to end; a VM ends with it, and what runs on another computer goes on")
            self._unasked_stop = self._loop.create_task(self._stop_unasked())

    async def _stop_unasked(self) -> None:
        if self._is_elsewhere:
            if self._stopping is not None:  # somebody stops it: the connection is not to end under that
                await asyncio.wait([self._stopping], timeout=TAKING_OVER_S)
            if self._stopping is None or not _has_succeeded(self._stopping):
                self._stopping = self._loop.create_task(self._leave_it())
                await asyncio.wait([self._stopping])
            self._told.set()
            return
        await self._stop(
            lambda told: log.error("%s", told["error"]) if "error" in told else None, in_order=False, forced=False
        )
        self._told.set()

    async def _leave_it(self) -> None:
        """What runs on another computer goes on when this one ends."""
        self._ending = True
        if self._state == "starting":
            await self._end_start()
        self._turn_docker_away()
        if self._state == "running" and self._vm is not None:
            await self._vm.leave()
        else:
            self._wanted.set()

    async def _end(self) -> None:
        """End the VM, whatever its state: in order when its engine answers. Raises `CoveError`."""
        adoptable = self._vm_is_left() and not self._is_elsewhere  # an engine there is ended without being had first
        if self._state == "resting" and adoptable and not self._forced.is_set():
            self._begin()  # an earlier start waited for its engine in vain, which may answer by now
        elif self._state != "running":
            self._ending = True
        if self._state == "starting":
            await self._end_start()
        if self._state == "running" and self._vm is not None and self._outcome.result() is None:
            if self._is_elsewhere:  # whence a stop may fail, and then clients go on
                await self._vm.stop(self._report, self._forced)
                self._turn_docker_away()
            else:
                self._turn_docker_away()
                await self._vm.stop(self._report, self._forced)
            return
        self._listeners.remove_docker()
        self._ending = True
        try:
            await self._place().stop_left(self._report, self._forced)
            runstate.forget(self._paths)
        finally:
            self._wanted.set()

    def _turn_docker_away(self) -> None:
        self._listeners.remove_docker()
        self._docker.close()

    @property
    def _is_elsewhere(self) -> bool:
        return self._paths.remote.exists()

    async def _end_start(self) -> None:
        """See to it that a start ends soon, in whichever way."""
        if not self._give_up():
            self._report(Event("stop", "waiting for its engine, which is to end in order"))
            hung = self._loop.create_task(self._hung.wait())  # it is ended by now, and another is not to be booted
            try:
                await one_of((self._outcome, hung), TAKING_OVER_S, self._forced)
            finally:
                hung.cancel()
            if not self._outcome.done():
                self._give_up(anyway=True)
        await asyncio.wait([self._outcome])


async def _hear(reader: asyncio.StreamReader, queue: asyncio.Queue[Event | Left | None]) -> None:
    """Put into `queue` how a client that waits says that it does not any more."""
    try:
        said = await reader.readline()
    except (OSError, ValueError):
        said = b""
    queue.put_nowait(Left(asked=bool(said)))


def _in_use(name: str, clients: int) -> MachineInUse:
    # One client may have several connections.
    who = "a docker client is connected" if clients == 1 else f"docker clients have {clients} connections to it"
    return MachineInUse(
        f"the machine {name} is in use: {who} (an exec, logs that are followed, a program of yours)",
        f"end them first, or end their connections with: cove machine suspend --force {name}",
    )


def _unused_and_awake(suspension: asyncio.Task[None]) -> None:
    """Note why a machine that nobody uses could not be suspended; nobody else hears of it."""
    if not suspension.cancelled() and (error := suspension.exception()) is not None:
        log.warning("the machine was not suspended: %s", error)


def _has_succeeded(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _last(error: CoveError | None) -> dict[str, Any]:
    if error is None:
        return {"done": True}
    in_use = {"in_use": True} if isinstance(error, MachineInUse) else {}
    return {"done": True, "error": error.message, "hint": error.hint, **in_use}


def main(paths: MachinePaths, listeners: Listeners, listening: Callable[[], None], again: bool) -> int:
    """The agent's process; returns its exit status."""
    logs.begin(paths.agent_log)

    async def run() -> None:
        service = Service(paths, listeners)
        if sys.platform != "win32":
            for number in processes.TO_END:
                asyncio.get_running_loop().add_signal_handler(number, service.end)

        def begun() -> None:
            if sys.platform != "win32":  # what came before, the supervisor has held back: it is heeded now
                signal.pthread_sigmask(signal.SIG_UNBLOCK, processes.TO_END)
            listening()

        await service.run(begun, again=again)

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        logging.info("interrupted; what runs goes on")
    except Exception:
        logging.exception("the agent failed")
        return 1
    threads.linger(TIDY_S)
    logging.info("the agent ends")
    logging.shutdown()
    return 0
