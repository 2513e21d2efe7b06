"""A machine's VM from start to end: image, boot, link, SSH, docker socket; and the ladder by which it stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coved.outside import Outside
from coved.streams.key import KEY_SIZE

from cove.agent import consolewords, disk, fit, hypervisor, images, unattended
from cove.agent.hypervisor import Hypervisor
from cove.agent.link import Link
from cove.agent.place import Place
from cove.agent.stream_folders import StreamFolders
from cove.agent.threads import abandonable
from cove.drivers.base import Driver, Forward, Forwarding, VmSpec
from cove.drivers.qemu import lastwords
from cove.errors import AgentError, BootError, CoveError, DriverError, GuestGaveUp, StateError, TransportError
from cove.forward import ssh_agent
from cove.forward.docker_socket import EngineDoor
from cove.forward.ports import PortForwards, free_port
from cove.forward.streamed import FarStream, StreamForwards
from cove.image.store import VmImage
from cove.local.joined import join
from cove.machine import crashes, effective, keys, outside, policy, registries, runstate, space, suspended, templates
from cove.machine.architecture import named
from cove.machine.files import MAX_CONSOLE, cut
from cove.machine.paths import MachinePaths
from cove.machine.runstate import RunState
from cove.machine.settings import SCHEMA, Settings, of_start
from cove.machine.sizes import format_size
from cove.machine.suspended import Suspended
from cove.progress import REACHABLE, Event, Report, ignore
from cove.share import starting as sharing
from cove.share.folders import Folder
from cove.share.manager import Folders, from_json, to_json
from cove.share.watching.watcher import Watcher
from cove.transport import vsock
from cove.transport.base import Stream
from cove.transport.serial import SerialTransport

if TYPE_CHECKING:
    from cove.transport.ssh import SshTransport  # paramiko: loaded when it is needed

log = logging.getLogger(__name__)

BOOT_TIMEOUT_S = 180.0
"""A first boot under software emulation on a busy computer takes a sixth of it."""
FIRST_TRY_S = 120.0
"""In which a guest that boots asks for its seed, when another try follows. That one has the longer time, for a computer that is too
slow for this."""
MOST_PATIENCE = 3.0
"""Times as long as these a boot may take on a computer that has far too much to do (`_patience`)."""
SOCKETS_S, AGAIN_S = 5.0, 0.25
"""In which a guest that is there answers who comes by sockets; and how soon it is tried again while it boots."""
LINK = "/run/cove/link.sock"
"""Where an engine takes the link (`coved.link.doorway`)."""
VSOCK_S = 10.0
"""In which a guest answers there that has one: it listens before it opens its other streams."""
RESTORED_TIMEOUT_S = 60.0
"""A VM that was restored from a template takes a hundredth of it, and a cold boot helps when it does not come up."""
HELD_S = 60.0
"""How often it is told that a VM stays whose engine does not answer, and looked whether it has to."""
ENDING_S = 1.0
"""In which a VM that ends is gone, when its connections are."""
STILL_FULL_S = 1.0
"""The write that failed is tried at once when the VM goes on."""
TELL_S = 5.0
"""Of what may take longer than who waits for it waits without a word."""
STREAMS_S = 10.0
"""Between the engine's first answer and that of what serves streams beside it."""
CONTAINERS_S, POWER_OFF_S, BUTTON_S, QUIT_S = 10, 35.0, 20.0, 10.0
FORCED_CONTAINERS_S, FORCED_OFF_S = 2, 10.0
"""For one whose data are to go: what its containers have written to folders of this computer is still to come there, which it does when
they end."""


class Vm(Place):
    """One run of one machine. Methods are called from one task at a time.

    `held` says whether somebody is in it in another way than through its engine, whose failure is then no reason to end it. `on_hung` is
    called when what ran before was ended, for nobody could speak to its hypervisor.
    """

    def __init__(
        self,
        paths: MachinePaths,
        held: Callable[[], bool] = lambda: False,
        on_hung: Callable[[], None] = lambda: None,
        run_by: Hypervisor | None = None,
    ) -> None:
        """``run_by``: what runs it, where that is not for the settings to say."""
        self._paths = paths
        self._run_by = run_by
        self._held = held
        self._on_hung = on_hung
        self._report: Report = ignore
        self.run: RunState | None = None
        self.link: Link | None = None
        self._hypervisor: Hypervisor | None = None
        self._driver: Driver | None = None
        self._forwards: Forwarding | None = None
        self._transport: SerialTransport | SshTransport | None = None
        self.folders: Folders | None = None
        self._plugs: StreamFolders | None = None
        """What folders come into a VM without ports by."""
        self.watcher: Watcher | None = None
        self._door: EngineDoor | None = None
        self.adopted = False
        self._console_begin = 0
        self._image = ""
        """The digest of the VM image that this start takes, as far as it has come."""
        self._policy = ""
        self._outside: Outside | None = None
        self._ssh_agent = "none"
        self._resumed = False
        """Its guest has everything open already, of which the host is told nothing."""
        self._on_disk: Callable[[], None] = lambda: None
        self._went_on = asyncio.Event()
        self._watching_disk: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._driver.pid() if self._driver else None

    @property
    def door(self) -> EngineDoor | None:
        return self._door

    @property
    def has_ended(self) -> bool:
        return self.pid is None

    @property
    def outlived_its_policy(self) -> bool:
        return self._resumed and self.run is not None and self.run.policy != self._policy

    @property
    def can_be_suspended(self) -> bool:  # type: ignore[override]
        return self.run is not None and bool(self.run.kind)

    async def start(self, report: Report) -> None:
        """Return when the engine answers. Raises `CoveError`, and then nothing is left running. So it is, and promptly, when the
        task is cancelled. A VM which ran before goes on in either case, unless nobody can speak to its hypervisor.
        """
        begin = time.monotonic()
        self._report = report
        self._take(self._run_by or hypervisor.of_machine(self._paths))
        assert self._driver is not None
        found = False
        self.adopted = True
        try:
            found = self.adopted = await self._adopt(report)
            if not found:
                with space.room(self._paths.folder, f"what the machine {self._paths.name} needs to start"):
                    await self._boot(report)
            else:
                try:
                    await self._look_outside(effective.load(self._paths.settings))
                except CoveError as error:  # which is no reason to end what runs
                    log.error("the engine keeps the proxies and certificates that it has: %s", error)
                if self._driver.disk_is_full():
                    await self._driver.resume()
                await self._ready_or_full(report, BOOT_TIMEOUT_S)
            if self.run is not None:
                await asyncio.to_thread(images.answered, self._paths, self.run.image)
        except BaseException as error:
            cancelled = isinstance(error, asyncio.CancelledError)
            full, goes_on = self._driver.disk_is_full(), self.adopted and (cancelled or self._driver.answers())
            if not goes_on:
                with contextlib.suppress(CoveError):
                    if cancelled:
                        await self._driver.quit()  # in order, for a guest that boots writes already
                        await self._ended(QUIT_S)
                    await self._driver.kill()
                    runstate.forget(self._paths)
            await self.close()
            if goes_on and not full and isinstance(error, CoveError):
                way = f"Its VM goes on, and so do its containers. End it with: cove machine stop {self._paths.name}"
                error.hint = "\n".join(filter(None, (error.hint, way)))
            if isinstance(error, BootError) and (said := lastwords.of_run(self._paths.qemu_log)):
                error.hint = "\n".join(["QEMU said:", *(f"  {line}" for line in said), error.hint])
            if isinstance(error, (BootError, DriverError, TransportError, AgentError)) and self._image:
                way = await asyncio.to_thread(images.failed, self._paths, self._image)
                error.hint = "\n".join(filter(None, (error.hint, way)))
            raise
        seconds = time.monotonic() - begin
        if not found and self.run is not None:
            self.run = replace(self.run, boot_seconds=seconds)
            with contextlib.suppress(OSError):  # it is only to be told by agents that come after
                runstate.save(self._paths, self.run)
        report(Event("ready", f"in {seconds:.1f} s"))

    def _take(self, one: Hypervisor) -> None:
        self._hypervisor, self._driver = one, one.driver
        self._forwards = one.driver if one.driver.has_ports else StreamForwards(self._open_stream)

    def _open_stream(self, target: str) -> Stream:
        """For threads. Raises `TransportError`."""
        if self._transport is None:
            raise TransportError(f"the machine {self._paths.name} cannot be reached yet")
        return self._transport.open_stream(target)

    async def _adopt(self, report: Report) -> bool:
        """Take over a VM that an earlier agent left, or an earlier start."""
        assert self._driver is not None
        self.run = runstate.load(self._paths)
        there = self._driver.pid() is not None
        if not await self._driver.adopt():
            if there:
                report(Event("boot", "its VM did not answer and was ended, as by a power cut"))
                self._on_hung()
            return False
        if self.run is None or suspended.load(self._paths) is not None:  # no machine yet, or none any more
            await self._driver.kill()
            return False
        log.info("found the running VM again, process %s", self._driver.pid())
        suspended.forget(self._paths)  # of one whose agent died before it was whole
        await self._driver.unfreeze()
        if not self._driver.has_ports:  # what leads to them has ended with that agent
            self.run = replace(self.run, ssh_port=await self._forward_ssh())
            runstate.save(self._paths, self.run)
        return True

    async def _boot(self, report: Report) -> None:
        assert self._driver is not None and self._hypervisor is not None
        loop = asyncio.get_running_loop()
        given_up = threading.Event()

        def image_progress(event: Event) -> None:
            if given_up.is_set():
                raise CoveError("nobody waits for the image any more")
            loop.call_soon_threadsafe(report, event)

        # Both can be wrong in a moment, and the image takes minutes.
        rules = policy.load()
        self._policy = rules.fingerprint
        wanted = effective.load(self._paths.settings)
        disk.check_size(self._paths, wanted.disk)
        await self._look_outside(wanted)
        if self._run_by is None:
            chosen, said = await asyncio.to_thread(hypervisor.choose, self._paths, wanted)
            if said:
                report(Event("machine", said))
            if chosen.name != self._hypervisor.name:
                self._take(chosen)
        await asyncio.to_thread(self._hypervisor.find, wanted)
        await asyncio.to_thread(keys.ensure, self._paths)
        # What is on disk is of a VM that has died. The next one is to be taken over only once it has its seed.
        unattended.note_crash(self._paths, seen=False)
        runstate.forget(self._paths)
        self.run = None
        if (before := suspended.load(self._paths)) is not None:
            try:
                await self._resume(wanted, before, report)
                return
            except (StateError, BootError) as error:
                await self._failed("its suspended state", "as after a power cut", error, report)
        suspended.forget(self._paths)
        for line in await asyncio.to_thread(fit.look_before_start, self._paths):
            report(Event("machine", line))
        try:
            image = await abandonable(images.choose, self._paths, named(wanted.architecture), image_progress)
            boot_disk = await abandonable(self._hypervisor.boot_disk, image, image_progress)
        finally:
            given_up.set()
        self._image = image.digest
        accelerator = await asyncio.to_thread(self._hypervisor.accelerator, image, wanted)
        cpus = "1 CPU" if wanted.cpus == 1 else f"{wanted.cpus} CPUs"
        text = f"{self._paths.name}: {cpus}, {format_size(wanted.memory)}, {format_size(wanted.disk)} disk"
        # At its first start alone: from then on `status` tells it whenever somebody asks.
        first = bool(accelerator.reason) and not self._paths.disk.exists()
        detail = f"{accelerator.reason}; cove machine status tells it again, cove diagnose what to do" if first else ""
        report(Event("machine", f"{text}, {accelerator.description}", detail=detail))
        shared, carried, lines = await asyncio.to_thread(self._hypervisor.folders, wanted)
        for line in lines:
            report(Event("machine", line))
        spec = VmSpec(
            self._paths.name, wanted.cpus, wanted.memory, wanted.disk, image.kernel, image.initramfs, image.system,
            image.command_line, accelerator, image.architecture, sharing.of_hypervisor(shared, carried),
            sharing.need_memory(shared, carried), await asyncio.to_thread(self._hypervisor.vsock_cid),
            boot_disk,
        )  # fmt: skip
        try:
            await self._boot_as(spec, image, wanted, rules, carried, shared, report)
        except DriverError as error:
            if not spec.vsock_cid:
                raise
            # QEMU and the kernel may refuse a device that is there (docs/decisions/0056).
            await self._failed("vsock", "without it", error, report)
            await self._boot_as(replace(spec, vsock_cid=0), image, wanted, rules, carried, shared, report)

    async def _boot_as(
        self, spec: VmSpec, image: VmImage, wanted: Settings, rules: policy.Policy, carried: str,
        shared: Sequence[Folder], report: Report,
    ) -> None:  # fmt: skip
        """From a template, or else from the beginning. Raises `CoveError`."""
        assert self._driver is not None
        accelerator = spec.accelerator
        await self._driver.create(spec)
        version = await asyncio.to_thread(self._driver.version)
        kind = await asyncio.to_thread(self._driver.state_kind, spec)
        key = templates.name(image.digest, kind) if kind and self._driver.keeps_templates else None
        run = RunState(
            secrets.token_hex(16), 0, image.digest, accelerator.name, accelerator.reason, version, wanted.cpus,
            wanted.memory, time.time(), wanted.bind_address, kind=kind or "", policy=rules.fingerprint, folders=to_json(shared),
            folder_driver=carried, folder_token=secrets.token_hex(16),
            shared_memory=spec.shared_memory, settings=of_start(wanted), vsock_cid=spec.vsock_cid,
            streams_key=secrets.token_hex(KEY_SIZE) if spec.vsock_cid or not self._driver.has_ports else "",
        )  # fmt: skip
        told = await asyncio.to_thread(registries.told, wanted, rules)
        if key is not None and (template := templates.find(key)) is not None:
            try:
                await self._restore(spec, template, run, told, report)
                return
            except GuestGaveUp:
                raise
            except (DriverError, BootError, TransportError, AgentError) as error:
                await self._failed("its template", "from the beginning", error, report)
                templates.discard(key)
        await self._cold_boot(spec, key, run, told, report, image)

    async def _look_outside(self, wanted: Settings) -> Outside:
        self._ssh_agent = wanted.ssh_agent
        self._outside = await asyncio.to_thread(outside.told, wanted)
        return self._outside

    async def renew(self) -> None:
        """Tell the engine of proxies and certificates that have changed. Raises `CoveError`."""
        told = await self._look_outside(await asyncio.to_thread(effective.load, self._paths.settings))
        if self.link is not None:
            self.link.tell_outside(told)

    async def _failed(self, what: str, how: str, error: CoveError, report: Report) -> None:
        """After a start that was to be quick: the way is clear for one that is not."""
        assert self._driver is not None
        log.error("%s cannot be used: %s", what, error)
        report(Event("boot", f"{what} cannot be used, so it boots {how}: {error}"))
        await self._start_over()

    async def _start_over(self) -> None:
        """End the VM of a start that has failed, of which nothing shall be left to the next."""
        assert self._driver is not None
        await self._driver.kill()
        await self.close()
        self._resumed = self.adopted = False
        self.run = self.link = None
        assert self._hypervisor is not None
        self._take(self._hypervisor.again())
        self.folders = None

    def _folders_of(self, run: RunState) -> Folders:
        assert self._driver is not None
        listed = from_json(run.folders)
        if self._driver.has_ports:
            return Folders(self._paths, self._driver, listed, run.folder_driver, run.folder_token)
        self._plugs = StreamFolders(self._paths.folder_keys)
        # Servers of an earlier agent have ended with it.
        return Folders(self._paths, self._plugs, listed, run.folder_driver, run.folder_token, anew=self.adopted)

    async def _resume(self, wanted: Settings, before: Suspended, report: Report) -> None:
        """Raises `StateError` when the state does not fit any more, `CoveError`; the state is there still until the VM goes on.

        No image is built for it, and no processors or memory are asked of the settings: it goes on with what it had.
        """
        assert self._driver is not None and self._hypervisor is not None
        from cove.image import store

        run = before.run
        image = store.find(run.image)
        if image is None:
            raise StateError(f"the VM image {run.image[:16]}, which it runs, is gone")
        # Of folders, what the settings say now; but what carries them is a part of the state.
        shared, _, _ = await asyncio.to_thread(self._hypervisor.folders, wanted)
        had = run.settings and {**run.settings, **{k: v for k, v in of_start(wanted).items() if SCHEMA[k].at_wake}}
        run = replace(run, folders=to_json(shared), settings=had)
        accelerator = await asyncio.to_thread(self._hypervisor.accelerator, image, wanted)
        spec = VmSpec(
            self._paths.name, run.cpus, run.memory, wanted.disk, image.kernel, image.initramfs, image.system,
            image.command_line, accelerator, image.architecture, sharing.of_hypervisor(shared, run.folder_driver), run.shared_memory,
            run.vsock_cid,
        )  # fmt: skip
        if run.vsock_cid and (why := vsock.unusable()):
            raise StateError(f"it has a vsock, which cannot be had any more: {why}")
        if run.kind != await asyncio.to_thread(self._driver.state_kind, spec):
            raise StateError("QEMU or what accelerates it is another one now")
        if not suspended.is_of_this_disk(self._paths, before):
            raise StateError(f"{self._paths.disk} was changed since")
        self._console_begin = consolewords.size(self._paths.console_log)

        async def consume() -> None:
            self.run = replace(run, ssh_port=await self._forward_ssh(), start="resumed", resumed_at=time.time())
            runstate.save(self._paths, self.run)  # from here on an agent that comes after can take it over
            suspended.forget(self._paths)
            self._resumed = self.adopted = True

        async with self._telling(report, Event("boot", "going on where it was suspended")):
            await self._driver.wake(spec, self._paths.suspended, consume)
        await self._ready_or_full(report, BOOT_TIMEOUT_S)

    async def suspend(
        self, report: Report, idle_since: float | None = None, unless: asyncio.Event | None = None
    ) -> None:  # fmt: skip
        """Write the VM to the disk and end it: the next start goes on where it was. Raises `CoveError`, and then it goes on.

        ``idle_since``: nobody has asked for it. ``unless``: it is given up when this is set before the state is whole.
        """
        assert self._driver is not None
        if self.run is None or not self.can_be_suspended:
            raise CoveError(
                f"the machine {self._paths.name} cannot be suspended: its QEMU was not started so that it could be saved",
                f"stop it instead: cove machine stop {self._paths.name}",
            )
        assert self.folders is not None
        async with self.folders.away(unless):  # with them it could not be saved, and some may be in use
            async with self._out_of_reach():
                async with self._telling(report, Event("suspend", "writing its memory to the disk")):
                    await self._save(idle_since, unless or asyncio.Event())
        await self._driver.quit()
        if not await self._ended(QUIT_S):
            await self._driver.kill()
        suspended.note(self._paths, self.run, ended=True, idle_since=idle_since)
        runstate.forget(self._paths)

    @contextlib.asynccontextmanager
    async def _out_of_reach(self) -> AsyncIterator[None]:
        """With no word half on its way. The next one finds the way again, when the VM goes on after all."""
        assert self._driver is not None and self._transport is not None
        kept = self.link if not self._driver.has_ports else None  # it goes the same way
        if kept is not None:
            kept.leave()
        await asyncio.to_thread(self._transport.disconnect)
        try:
            yield
        except BaseException:
            if kept is not None:
                kept.keep()
            raise

    async def _save(self, idle_since: float | None, unless: asyncio.Event) -> None:
        assert self._driver is not None and self.run is not None
        with space.room(self._paths.folder, f"the memory of the machine {self._paths.name}"):
            await self._driver.suspend(self._paths.suspended, unless)
            try:
                if unless.is_set():
                    raise CoveError("it was given up")
                suspended.note(self._paths, self.run, ended=False, idle_since=idle_since)
            except BaseException:
                suspended.forget(self._paths)
                await self._driver.unfreeze()
                raise

    @contextlib.asynccontextmanager
    async def _telling(self, report: Report, event: Event) -> AsyncIterator[None]:
        """Tell of a step that may take minutes, and again every few seconds: who waits also learns that somebody is there still."""
        report(event)

        async def tell() -> None:
            assert self._driver is not None
            while True:
                await asyncio.sleep(TELL_S)
                done, total = await self._driver.written() or (None, None)
                report(replace(event, done=done, total=total))

        telling = asyncio.create_task(tell())
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.wait((telling,))

    async def _restore(
        self, spec: VmSpec, template: Path, run: RunState, told: dict[str, Any], report: Report
    ) -> None:  # fmt: skip
        assert self._driver is not None
        self._console_begin = consolewords.size(self._paths.console_log)
        await self._driver.start(spec, template)
        await self._begin(spec, replace(run, start="template"), told)
        await self._ready_or_full(report, RESTORED_TIMEOUT_S)

    async def _cold_boot(
        self, spec: VmSpec, key: str | None, run: RunState, told: dict[str, Any], report: Report, image: VmImage
    ) -> None:
        assert self._driver is not None
        report(Event("boot", "loading the system"))
        if not self._driver.has_ports:
            self._console_begin = consolewords.size(self._paths.console_log)
            await self._driver.start(spec)
            await self._begin(spec, run, told)
            await self._ready_or_full(report, BOOT_TIMEOUT_S)
            return
        has_byte_code = image.gives_byte_code and image.compiled.exists()
        try:
            await self._load_system(replace(spec, initramfs=image.compiled) if has_byte_code else spec, FIRST_TRY_S)
        except GuestGaveUp:
            raise
        except BootError as error:
            # It had no disk yet, so there is nothing that it could have spoilt: see docs/troubleshooting.md.
            log.error("%s\n%s", error, error.hint)
            report(Event("boot", "the machine did not boot; trying once more"))
            await self._start_over()
            await self._load_system(spec, BOOT_TIMEOUT_S)
            has_byte_code = False  # it may be what was wrong, and is made anew
        if image.gives_byte_code and not has_byte_code and not await self._keep_byte_code(image):
            # Half of it may lie in the port, and go where the answer to the seed is looked for.
            await self._start_over()
            await self._load_system(spec, BOOT_TIMEOUT_S)
        assert self._driver is not None
        if key is not None:
            saving = Event("boot", "saving what it has loaded: the next start takes a moment")
            try:
                async with self._telling(report, saving):
                    templates.prepare()
                    await self._driver.save(templates.place(key))
            except (DriverError, OSError) as error:  # this start does without it, and so does the next
                log.error("no template could be saved: %s", error)
        await self._begin(spec, run, told)
        await self._ready_or_full(report, BOOT_TIMEOUT_S)

    async def _keep_byte_code(self, image: VmImage) -> bool:
        """It makes the boots that follow faster. Returns whether the guest can go on: it has given all that was asked of it."""
        from cove.image import byte_code  # most starts are from a template

        assert self._driver is not None
        try:
            archive = await self._driver.byte_code(byte_code.MAX)
        except DriverError as error:
            log.error("the guest does not tell what it has compiled: %s", error)
            return False
        try:
            if archive:
                await asyncio.to_thread(byte_code.keep, image, archive)
        except (BootError, OSError) as error:
            log.error("the next boot has to compile again: %s", error)
        return True

    async def _load_system(self, spec: VmSpec, timeout_s: float) -> None:
        """Boot until the guest waits for its seed."""
        assert self._driver is not None
        self._console_begin = consolewords.size(self._paths.console_log)
        await self._driver.start(spec)
        await self._or_gone(self._driver.wait_held(), timeout_s)

    async def _begin(self, spec: VmSpec, run: RunState, told: dict[str, Any]) -> None:
        """Make a VM that waits for its seed this machine. It is not to be taken over before: nobody else could give it one."""
        assert self._driver is not None
        await self._driver.begin(spec, keys.seed(self._paths, run.boot_id, told, self._outside, run.streams_key))
        ssh_port = await self._forward_ssh()
        self.run = replace(run, ssh_port=ssh_port, console_begin=self._console_begin)
        runstate.save(self._paths, self.run)

    async def _forward_ssh(self) -> int:
        assert self._forwards is not None
        for _ in range(8):
            port = free_port("tcp", "127.0.0.1")
            try:
                await self._forwards.forward(Forward("tcp", "127.0.0.1", port, 22))
                return port
            except DriverError as error:
                problem = error
        raise problem

    async def _ready(self, report: Report, timeout_s: float) -> None:
        assert self._driver is not None and self._forwards is not None and self.run is not None
        self.folders = self.folders or self._folders_of(self.run)
        report(Event("boot", "waiting for the engine"))
        self.folders.plug()
        ports = PortForwards(self._forwards, self.run.bind_address)
        connect = self._driver.connect_link if self._driver.has_ports else self._connect_link
        self.link = Link(connect, ports, self.run.boot_id, self._outside, self.folders)
        self.watcher = self.link.watcher = Watcher(self.folders.carried, self.link.tell_changes)
        self.link.on_engine_death = self._note_engine
        if self._driver.has_ports:
            await self.link.open()
            await self._driver.on_link_change(self.link.changed)
            if self._resumed:
                self.link.changed(True)
        await self._or_gone(self._answers(self.link, report), timeout_s)
        assert self._transport is not None
        self._door = EngineDoor(self._transport, self.link.answering)

    def _note_engine(self, at: float) -> None:
        """The engine has died, and here is another."""
        assert self.run is not None
        try:
            said = consolewords.engine_died(consolewords.of_run(self._paths.console_log, self.run.console_begin, 50))
        except OSError:
            said = ""
        log.warning("the engine has died (%s) and was started again", said or "its log says why")
        crashes.note(self._paths, "engine", said or "its log says why", (), self.run.boot_id, at)

    async def _answers(self, link: Link, report: Report) -> None:
        assert self._driver is not None
        if self._driver.has_ports:
            await self._connect(link, report)
        else:
            await self._come_by_sockets(link)
        report(Event(REACHABLE, "the machine can be reached"))
        await link.ready.wait()

    async def _or_gone(self, work: Awaitable[object], timeout_s: float) -> None:
        """Wait for a step of the boot. Raises `BootError` when the VM ends meanwhile, or it takes too long and nobody is in it."""
        assert self._driver is not None
        timeout_s *= _patience()
        up: asyncio.Future[object] = asyncio.ensure_future(work)
        gone: asyncio.Future[None] = asyncio.ensure_future(self._driver.wait_exit())
        try:
            await asyncio.wait((gone, up), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            while not (gone.done() or up.done()) and self._held():
                stays = "its engine does not answer; it stays up while somebody is in it (cove machine ssh)"
                self._report(Event("boot", stays))
                await asyncio.wait((gone, up), timeout=HELD_S, return_when=asyncio.FIRST_COMPLETED)
            if not (gone.done() or up.done()) and (self.link is None or not self.link.was_opened):
                log.error(
                    "the VM has not come up; its processors:\n%s",
                    await self._driver.inspected() or "and QEMU does not answer",
                )
            if not up.done():
                raise self._boot_error(None if gone.done() else timeout_s)
            try:
                await up
            except (TransportError, DriverError) as error:
                # A VM that ends breaks its connections first, and those tell nothing of why.
                await asyncio.wait((gone,), timeout=ENDING_S)
                if gone.done():
                    raise self._boot_error(None) from error
                raise
        finally:
            gone.cancel()
            up.cancel()

    async def _connect(self, link: Link, report: Report) -> None:
        """Find the way in while the engine starts: the streams' port, and SSH when nobody comes to answer there."""
        assert self._driver is not None and self.run is not None
        agent = ssh_agent.Service(lambda: ssh_agent.place(self._ssh_agent))
        streams, listening = SerialTransport(self._driver.connect_streams), asyncio.Event()
        streams.serve(ssh_agent.NAME, agent.serve)
        await self._driver.on_streams_change(lambda open: listening.set() if open else streams.drop())
        if self._resumed:
            listening.set()
        try:
            await _set_soon(listening, link.ready)
            self._transport = await self._by_vsock(self.run, agent)
            if self._transport is None:
                await asyncio.to_thread(streams.connect)
                self._transport = streams
        except (TimeoutError, TransportError) as error:
            from cove.transport.ssh import SshTransport

            log.error("the machine's streams are of no use, SSH has to do: %s", error or "it does not open their port")
            self._transport = SshTransport(self.run.ssh_port, self._paths.ssh_key, self._paths.host_key)
            self._transport.serve(ssh_agent.NAME, agent.serve)
            await asyncio.to_thread(self._transport.connect)

    async def _come_by_sockets(self, link: Link) -> None:
        """The only way into a guest that has no ports; nothing tells when it is there."""
        assert self._hypervisor is not None and self.run is not None
        agent = ssh_agent.Service(lambda: ssh_agent.place(self._ssh_agent))
        made = SerialTransport(self._hypervisor.dial(bytes.fromhex(self.run.streams_key)), SOCKETS_S)
        made.serve(ssh_agent.NAME, agent.serve)
        assert self._plugs is not None
        for tag in [folder["tag"] for folder in self.run.folders]:
            made.serve(tag, self._plugs.handler(tag))
        self._transport = made
        told = ""
        while True:
            try:
                await asyncio.to_thread(made.connect)
                break
            except TransportError as error:
                if str(error) != told:
                    told = str(error)
                    log.info("the guest does not answer yet: %s", told)
                await asyncio.sleep(AGAIN_S)
        link.keep()

    def _connect_link(self) -> socket.socket:
        """For threads. Raises `OSError`."""
        try:
            return join(FarStream(self._open_stream(LINK)))
        except (TransportError, RuntimeError) as error:  # nobody there, or no more threads here
            raise ConnectionRefusedError(str(error)) from error

    async def _by_vsock(self, run: RunState, agent: ssh_agent.Service) -> SerialTransport | None:
        """The quickest way into the machine, where there is one; the guest listens there before it opens the streams' port."""
        if not run.vsock_cid:
            return None
        made = SerialTransport(vsock.GuestSocket(run.vsock_cid, bytes.fromhex(run.streams_key)).dial, VSOCK_S)
        made.serve(ssh_agent.NAME, agent.serve)
        try:
            await asyncio.to_thread(made.connect)
        except TransportError as error:
            log.warning("the machine's vsock is of no use, its serial port has to do: %s", error)
            await asyncio.to_thread(made.close)
            return None
        return made

    def _boot_error(self, waited_s: float | None) -> BootError:
        """``waited_s``: in vain; None when the VM has ended."""
        late = "it did not boot" if self.run is None else "its engine did not answer"
        why = "it ended" if waited_s is None else f"{late} within {waited_s:.0f} s"
        begin = self.run.console_begin if self.run is not None else self._console_begin
        said = consolewords.of_run(self._paths.console_log, begin, 8)
        last = [f"  {line}" for line in said]
        if waited_s is not None and (reason := consolewords.engines_end(said)):
            why = f"{why}: {reason}"
        kind = BootError
        if waited_s is None and (reason := consolewords.gave_up(said)):
            why, kind = reason, GuestGaveUp
        return kind(
            f"the machine {self._paths.name} did not start: {why}",
            "\n".join(
                [
                    *(["the console's last lines:", *last] if last else ["the console has said nothing"]),
                    f"all of it: {self._paths.console_log}",
                    f"what may be wrong: cove diagnose {self._paths.name}",
                ]
            ),
        )

    async def _ready_or_full(self, report: Report, timeout_s: float) -> None:
        """A VM that stands still for want of room would only be found out by its boot's time limit."""
        assert self._driver is not None
        ready = asyncio.ensure_future(self._ready(report, timeout_s))
        full = asyncio.ensure_future(self._driver.wait_disk_full())
        try:
            await asyncio.wait((ready, full), return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                raise self._disk_full()
            await ready
        finally:
            full.cancel()
            ready.cancel()
            await asyncio.gather(ready, full, return_exceptions=True)

    def _disk_full(self) -> CoveError:
        return space.full(self._paths.folder, f"what the machine {self._paths.name} writes to its disk")

    async def go_on(self) -> None:
        """Let a VM that stands still for want of room go on, now that there may be some. Raises `CoveError`."""
        assert self._driver is not None
        if not self._driver.disk_is_full():
            return
        await self._driver.resume()
        self._went_on.set()
        self._on_disk()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._driver.wait_disk_full(), STILL_FULL_S)
            raise self._disk_full()

    def tell_of_trouble(self, changed: Callable[[], None]) -> None:
        """That is when the VM begins to stand still for want of room, and when it goes on."""
        self._on_disk = changed
        self._watching_disk = asyncio.get_running_loop().create_task(self._watch_disk())

    async def _watch_disk(self) -> None:
        assert self._driver is not None
        while True:
            await self._driver.wait_disk_full()
            self._on_disk()
            self._went_on.clear()
            if self._driver.disk_is_full():
                await self._went_on.wait()

    def seen(self) -> None:
        self._cut_logs()
        super().seen()

    def _cut_logs(self) -> None:
        """Keep the guest from filling this computer's disk with what it says. To be called now and then."""
        try:
            cut(self._paths.qemu_log, MAX_CONSOLE)
            if cut(self._paths.console_log, MAX_CONSOLE):
                self._console_begin = 0
                if self.run is not None:
                    self.run = replace(self.run, console_begin=0)
                    runstate.save(self._paths, self.run)
        except OSError as error:
            log.error("the console's log could not be cut: %s", error)

    async def wait_exit(self) -> None:
        assert self._driver is not None
        await self._driver.wait_exit()

    async def stop(self, report: Report, forced: asyncio.Event | None = None) -> None:
        """The ladder: ask the engine, press the power button, switch off, kill. Each step is bounded and told.

        ``forced``: its data are to go, so from when this is set on it is not waited for long, and there is no button.
        """
        assert self._driver is not None
        driver, link, button_s, forced = self._driver, self.link, BUTTON_S, forced or asyncio.Event()
        if link is None:
            button_s = POWER_OFF_S  # the first that its engine hears of it
        elif link.ready.is_set():
            report(Event("stop", "stopping containers and powering off"))
            link.shutdown(FORCED_CONTAINERS_S if forced.is_set() else CONTAINERS_S)
            if await self._ended(POWER_OFF_S, forced):
                return
        if not forced.is_set():
            report(Event("stop", "the engine does not stop; pressing the power button"))
            with contextlib.suppress(DriverError):
                await driver.power_button()
                if await self._ended(button_s, forced):
                    return
        report(
            Event("stop", "switching it off" if forced.is_set() else "the machine does not power off; switching it off")
        )
        await driver.quit()
        if await self._ended(QUIT_S):
            return
        assert self._hypervisor is not None
        report(Event("stop", f"{self._hypervisor.label} does not end it; killing it"))
        await driver.kill()

    async def leave(self) -> None:
        await self.stop(ignore)

    async def stop_left(self, report: Report, forced: asyncio.Event | None = None) -> None:
        """Stop a VM that runs and of which no start has come to anything: by the ladder, without its engine. Raises `DriverError`."""
        self._take(self._run_by or hypervisor.of_machine(self._paths))
        try:
            with contextlib.suppress(DriverError):  # the ladder ends one that takes no orders
                if not await self._adopt(report):
                    return
            await self.stop(report, forced)
        finally:
            await self.close()

    async def _ended(self, timeout_s: float, forced: asyncio.Event | None = None) -> bool:
        exit = asyncio.ensure_future(self.wait_exit())
        try:
            await one_of((exit,), timeout_s, forced or asyncio.Event())
            if not exit.done():
                return False
            await exit
        finally:
            exit.cancel()
        return self.pid is None

    async def close(self) -> None:
        """Let go of sockets; the VM goes on."""
        if self._watching_disk is not None:
            self._watching_disk.cancel()
        if self._door is not None:
            self._door.close()
        if self._transport is not None:
            await asyncio.to_thread(self._transport.close)
        if self.link is not None:
            await self.link.close()
        if self.watcher is not None:
            await self.watcher.close()
            self.watcher = None
        if self.folders is not None:
            await self.folders.close()
        if self._plugs is not None:
            self._plugs.close()
        if isinstance(self._forwards, StreamForwards):
            await asyncio.to_thread(self._forwards.close)
        if self._driver is not None:
            await self._driver.close()

    def status(self) -> dict[str, Any]:
        """What `cove machine status` shows of a VM that runs."""
        run, engine = self.run, self.link.engine if self.link else None
        result: dict[str, Any] = {"pid": self.pid}
        if run is not None:
            result |= run.shown()
        if self.folders is not None:
            result["folders"] = self.folders.status()
        if self.watcher is not None and self.watcher.trouble:
            result["changes"] = sorted(set(self.watcher.trouble.values()))
        if engine is not None:
            result |= {"engine_version": engine.engine_version, "api_version": engine.api_version}
        result["host_memory"] = _resident(self.pid)
        if self.link is not None and (lost := self.link.lost_ports):
            result["lost_ports"] = lost
        if self._driver is not None and self._driver.disk_is_full():
            result["trouble"] = str(self._disk_full())
        return result


async def one_of(what: Collection[asyncio.Future[Any]], timeout_s: float, forced: asyncio.Event) -> None:
    """Wait until something of `what` is done: so long, or, once `forced` is set, so long as for one whose data are to go."""
    hurry = asyncio.ensure_future(forced.wait())
    try:
        await asyncio.wait((*what, hurry), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if hurry.done() and not any(one.done() for one in what):
            await asyncio.wait(what, timeout=FORCED_OFF_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hurry.cancel()


def _patience() -> float:
    """How many times as long as usual a boot may take now: where many programs wait for each processor, a VM has its part of one.

    A boot keeps some of them busy itself, so 2 for each is nothing unusual.
    """
    if sys.platform == "win32":
        return 1.0
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min(MOST_PATIENCE, max(1.0, waiting / 2))


def _resident(pid: int | None) -> int | None:
    """Bytes of the computer's memory that a process takes, where the system tells."""
    if sys.platform != "linux":
        return None
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


async def _set_soon(event: asyncio.Event, other: asyncio.Event) -> None:
    """Wait for an event, `STREAMS_S` at most when the other has come. Raises `TimeoutError`."""
    wanted, before = asyncio.ensure_future(event.wait()), asyncio.ensure_future(other.wait())
    try:
        await asyncio.wait((wanted, before), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait_for(wanted, STREAMS_S)
    finally:
        wanted.cancel()
        before.cancel()
