"""Further processes in running containers (``docker exec``)."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coved.containers import capabilities, spec
from coved.containers.config_schema import EXEC, Json, read
from coved.containers.container import Container
from coved.containers.hints import with_hint
from coved.containers.linked import Linked
from coved.containers.proxies_and_certificates import ProxiesAndCertificates
from coved.errors import Conflict, EngineError, InvalidParameter, NotFound
from coved.events import Events
from coved.runtime.errors import NotRunning, RuntimeFailure, StartError
from coved.runtime.spec import Attachment, Exit, Process, Stdio

KEPT = 1000
"""Ended execs of one engine that an inspect still finds."""
UNSTARTED = 256
"""How many execs of one container may be there that nobody has started."""
GIVEN_UP_S = 600.0
"""After that time one that nobody has started makes room for another. dockerd keeps it until the container ends."""
_ID = re.compile(r"[0-9a-f]{64}")  # others are the engine's own
_NOT_STARTED = 126
_READY_S = 10.0


@dataclass
class Exec:
    """``config`` has the fields of ExecConfig; ``exit_code`` is None until it has ended."""

    id: str
    container: Container
    config: Json
    detach_keys: bytes = b""
    """As they were asked for; empty is Docker's default."""
    running: bool = False
    pid: int = 0
    exit_code: int | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Its process is there, or could not be made."""
    created_s: float = 0.0
    """By the monotonic clock."""

    @property
    def unstarted(self) -> bool:
        return not self.running and self.exit_code is None


class Execs:
    """All execs by id."""

    def __init__(self, events: Events, linked: Linked, proxies_and_certificates: ProxiesAndCertificates) -> None:
        self._events = events
        self._linked = linked
        self._proxies_and_certificates = proxies_and_certificates
        self._execs: dict[str, Exec] = {}

    def get(self, id: str) -> Exec:
        """Raises NotFound."""
        found = self._execs.get(id)
        if found is None:
            raise NotFound(f"No such exec instance: {id}")
        return found

    def get_current(self, id: str) -> Exec:
        """As it is now, however little the engine has had time to listen. Raises NotFound."""
        found = self.get(id)
        if found.running and found.container.shim is not None:
            found.container.shim.catch_up()
        return found

    def get_active(self, id: str) -> Exec:
        """One whose container can run it. Raises NotFound, Conflict."""
        found = self.get(id)
        _must_run(found.container, found.container.id)
        return found

    def of(self, container: Container) -> list[str]:
        """Ids of the container's execs that have not ended."""
        return [one.id for one in self._execs.values() if one.container is container and one.exit_code is None]

    def create(
        self, container: Container, body: Mapping[str, Any], *, reference: str, detach_keys: bytes = b""
    ) -> Exec:
        """Raises Conflict when the container does not run or has too many that were not started, InvalidParameter.

        ``reference`` is what the client calls the container.
        """
        config = read(EXEC, body, "ExecConfig")
        if not config["Cmd"]:
            raise InvalidParameter("No exec command specified")
        _must_run(container, reference)
        given = {entry.partition("=")[0] for entry in config["Env"]}
        linked = self._linked.environment(container)
        inherited = [entry for entry in container.config["Env"] if entry.partition("=")[0] not in given]
        own = [*linked, *inherited, *config["Env"]]
        pid = container.shim.pid if container.shim else 0
        config["Env"] = [*self._proxies_and_certificates.environment(own, pid), *own]
        config["User"] = config["User"] or container.config["User"]
        config["WorkingDir"] = config["WorkingDir"] or container.config["WorkingDir"]
        self._prune()
        self._make_room(container, reference)
        made = Exec(secrets.token_hex(32), container, config, detach_keys, created_s=time.monotonic())
        self._execs[made.id] = made
        self._event(made, f"exec_create: {_words(made)}")
        return made

    def must_be_startable(self, one: Exec) -> None:
        """Raises Conflict in Docker's words."""
        if one.exit_code is not None:
            raise Conflict(f"exec command {one.id} has already run")
        if one.running:
            raise Conflict(f"exec command {one.id} is already running")
        _must_run(one.container, one.container.id)

    async def start(self, one: Exec, attachments: list[Attachment], console_size: list[int] | None = None) -> None:
        """Runs it. Takes over the attachments' descriptors. Raises EngineError with Docker's words for what cannot be run."""
        try:
            self.must_be_startable(one)
            one.running = True
            await self._start(one, attachments, console_size or one.config["ConsoleSize"])
        finally:
            for attachment in attachments:
                os.close(attachment.fd)

    async def _start(self, one: Exec, attachments: list[Attachment], size: list[int]) -> None:
        height, width = size
        stdio = Stdio(one.config["Tty"], one.config["AttachStdin"], True, height, width)
        shim = one.container.shim
        assert shim is not None
        self._event(one, f"exec_start: {_words(one)}")
        try:
            process = process_of(one.container, one.config, size)
            if not process["cwd"].startswith("/"):
                raise EngineError("OCI runtime exec failed: exec failed: Cwd must be an absolute path: unknown")
            one.pid = await shim.exec(one.id, process, stdio=stdio, attach=attachments)
            return
        except StartError as error:
            raise InvalidParameter(with_hint(error.message)) from None
        except NotRunning:
            raise Conflict(f"container {one.container.id} is not running") from None
        except RuntimeFailure as error:
            raise EngineError(with_hint(str(error))) from None
        finally:
            one.ready.set()
            if one.pid == 0:
                one.running, one.exit_code = False, _NOT_STARTED

    async def resize(self, one: Exec, height: int, width: int) -> None:
        """Raises NotFound, Conflict, InvalidParameter; waits for a start that is under way."""
        try:
            await asyncio.wait_for(one.ready.wait(), _READY_S)
        except TimeoutError:
            raise EngineError("timeout waiting for exec session ready") from None
        if one.pid == 0:
            raise InvalidParameter("exec process is not started")
        if not one.running or one.container.shim is None:
            raise NotFound(f"process does not exist {one.id}: not found")
        try:
            await one.container.shim.resize(one.id, height, width)
        except RuntimeFailure as error:
            raise EngineError(f"cannot resize exec {one.id}: {error}") from None

    def ended(self, container: Container, id: str, exit: Exit) -> None:
        """The runtime's word that one has ended."""
        one = self._execs.get(id)
        if one is not None and one.exit_code is None:
            one.running, one.exit_code = False, exit.code
            self._event(one, "exec_die", execID=id, exitCode=str(exit.code))

    def detached(self, id: str) -> None:
        """The runtime's word that a client has typed its detach keys."""
        if (one := self._execs.get(id)) is not None:
            self._event(one, "exec_detach")

    def adopt(self, container: Container) -> None:
        """Find the execs again that outlived an earlier engine; what they were asked to be is not known any more."""
        if container.shim is None:
            return
        for id, pid in container.shim.execs.items():
            if _ID.fullmatch(id):
                one = self._execs.setdefault(
                    id, Exec(id, container, read(EXEC, {}, "ExecConfig"), running=True, pid=pid)
                )
                one.ready.set()
        for id, exit in container.shim.exits.items():
            if _ID.fullmatch(id) and id not in self._execs:
                # Its client may have seen its output to the end, and asks how it ended as soon as there is an engine.
                known = Exec(id, container, read(EXEC, {}, "ExecConfig"), exit_code=exit.code)
                known.ready.set()
                self._execs[id] = known

    def forget(self, container_id: str, *, ended: bool = False) -> None:
        """The container is gone; or it has only ``ended``, and then execs that had ended before are still told of."""
        self._execs = {
            id: one
            for id, one in self._execs.items()
            if one.container.id != container_id or (ended and one.exit_code is not None)
        }

    def _prune(self) -> None:
        done = [id for id, one in self._execs.items() if one.exit_code is not None]
        for id in done[: max(0, len(done) - KEPT)]:
            del self._execs[id]

    def _make_room(self, container: Container, reference: str) -> None:
        """Among those that nobody has started: whoever makes them and leaves must not fill the engine's memory."""
        unstarted = [one for one in self._execs.values() if one.container is container and one.unstarted]
        if len(unstarted) < UNSTARTED:
            return
        overdue = [one for one in unstarted if time.monotonic() - one.created_s > GIVEN_UP_S]
        if not overdue:
            raise Conflict(
                f"Container {reference} has {UNSTARTED} execs already that were created and not started:"
                f" start them, or wait {GIVEN_UP_S / 60:.0f} minutes for them to be given up"
            )
        for one in overdue:
            del self._execs[one.id]

    def _event(self, one: Exec, action: str, **attributes: str) -> None:
        container = one.container
        more = {"execID": one.id, **attributes}
        self._events.publish("container", action, container.id, container.event_attributes(**more))


def process_of(container: Container, config: Json, size: Sequence[int] = (0, 0)) -> Process:
    """A further process in ``container``; ``config`` has the fields of ExecConfig, ``size`` is height and width of its terminal.

    It has the container's environment, groups, limits and capabilities, and all capabilities when it is privileged.
    """
    config = {**config, "Hostname": container.config["Hostname"]}
    host = {**container.host_config, "ConsoleSize": [*size]}
    privileged = bool(config.get("Privileged")) or host["Privileged"]
    caps = capabilities.effective(host["CapAdd"] or (), host["CapDrop"] or (), privileged=privileged)
    return spec.process(config, host, config["Cmd"], caps)


def _words(one: Exec) -> str:
    """The command as dockerd's events have it."""
    first, *rest = one.config["Cmd"]
    return f"{first} {' '.join(rest)}"


def _must_run(container: Container, reference: str) -> None:
    status = container.state.status
    if status == "paused":
        raise Conflict(f"Container {reference} is paused, unpause the container before exec")
    if status == "restarting":
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if status != "running" or container.shim is None:
        raise Conflict(f"container {container.id} is not running")
