"""Further processes in running containers (``docker exec``)."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coved.containers import capabilities, spec
from coved.containers.config_schema import CONFIG, Json, read
from coved.containers.container import Container
from coved.errors import Conflict, EngineError, InvalidParameter, NotFound
from coved.events import Events
from coved.runtime.errors import NotRunning, RuntimeFailure, StartError
from coved.runtime.spec import Attachment, Exit, Stdio

KEPT = 1000
"""Ended execs of one engine that an inspect still finds."""


@dataclass
class Exec:
    """``config`` has the fields of ExecConfig; ``exit_code`` is None until it has ended."""

    id: str
    container: Container
    config: Json
    privileged: bool
    detach_keys: str = ""
    started: bool = False
    running: bool = False
    pid: int = 0
    exit_code: int | None = None


class Execs:
    """All execs by id."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._execs: dict[str, Exec] = {}

    def get(self, id: str) -> Exec:
        """Raises NotFound."""
        found = self._execs.get(id)
        if found is None:
            raise NotFound(f"No such exec instance: {id}")
        return found

    def of(self, container: Container) -> list[str]:
        """Ids of the container's execs that have not ended."""
        return [one.id for one in self._execs.values() if one.container is container and one.exit_code is None]

    def create(self, container: Container, body: Mapping[str, Any]) -> Exec:
        """Raises Conflict when the container does not run, InvalidParameter."""
        _must_run(container)
        config = read(CONFIG, body, "ExecConfig")
        if not config["Cmd"]:
            raise InvalidParameter("No exec command specified")
        if config["WorkingDir"] and not config["WorkingDir"].startswith("/"):
            raise InvalidParameter(
                f"the working directory '{config['WorkingDir']}' is invalid, it needs to be an absolute path"
            )
        given = {entry.partition("=")[0] for entry in config["Env"]}
        inherited = [entry for entry in container.config["Env"] if entry.partition("=")[0] not in given]
        config["Env"] = [*inherited, *config["Env"]]
        config["User"] = config["User"] or container.config["User"]
        config["WorkingDir"] = config["WorkingDir"] or container.config["WorkingDir"]
        config["Hostname"] = container.config["Hostname"]
        size = body.get("ConsoleSize")
        config["ConsoleSize"] = size if isinstance(size, list) and len(size) == 2 else [0, 0]
        made = Exec(
            secrets.token_hex(32), container, config, bool(body.get("Privileged")), str(body.get("DetachKeys") or "")
        )
        self._prune()
        self._execs[made.id] = made
        self._event(made, f"exec_create: {shlex.join(config['Cmd'])}")
        return made

    def must_be_startable(self, one: Exec) -> None:
        """Raises Conflict in Docker's words."""
        if one.exit_code is not None or one.started:
            raise Conflict(
                f"exec command {one.id} has already run"
                if one.exit_code is not None
                else f"exec {one.id} is already running"
            )
        _must_run(one.container)

    async def start(self, one: Exec, attachments: list[Attachment], console_size: list[int] | None = None) -> None:
        """Runs it. Takes over the attachments' descriptors. Raises EngineError with Docker's words for what cannot be run."""
        self.must_be_startable(one)
        one.started = True
        host = {**one.container.host, "ConsoleSize": console_size or one.config["ConsoleSize"]}
        caps = capabilities.effective(
            host["CapAdd"] or (), host["CapDrop"] or (), privileged=one.privileged or host["Privileged"]
        )
        process = spec.process(one.config, host, one.config["Cmd"], caps)
        height, width = host["ConsoleSize"]
        stdio = Stdio(one.config["Tty"], one.config["AttachStdin"], True, height, width)
        shim = one.container.shim
        assert shim is not None
        self._event(one, f"exec_start: {shlex.join(one.config['Cmd'])}")
        try:
            one.running = True
            one.pid = await shim.exec(one.id, process, stdio=stdio, attach=attachments)
        except StartError as error:
            one.running, one.exit_code = False, error.exit_code
            raise InvalidParameter(error.message) from None
        except NotRunning:
            one.running, one.exit_code = False, 128
            raise Conflict(f"container {one.container.id} is not running") from None
        except RuntimeFailure as error:
            one.running, one.exit_code = False, 126
            raise EngineError(str(error)) from None
        finally:
            for attachment in attachments:
                os.close(attachment.fd)

    async def resize(self, one: Exec, height: int, width: int) -> None:
        if not one.running or one.container.shim is None:
            raise Conflict(f"exec process {one.id} is not started")
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

    def adopt(self, container: Container) -> None:
        """Find the execs again that outlived an earlier engine; what they were asked to be is not known any more."""
        if container.shim is None:
            return
        config = read(CONFIG, {}, "ExecConfig")
        for id, pid in container.shim.execs.items():
            self._execs.setdefault(id, Exec(id, container, config, False, "", True, True, pid))

    def forget(self, container_id: str) -> None:
        self._execs = {id: one for id, one in self._execs.items() if one.container.id != container_id}

    def _prune(self) -> None:
        done = [id for id, one in self._execs.items() if one.exit_code is not None]
        for id in done[: max(0, len(done) - KEPT)]:
            del self._execs[id]

    def _event(self, one: Exec, action: str, **attributes: str) -> None:
        container = one.container
        more = {"execID": one.id, **attributes}
        self._events.publish("container", action, container.id, container.event_attributes(**more))


def _must_run(container: Container) -> None:
    if container.state.status == "paused":
        raise Conflict(f"container {container.name} is paused, unpause the container before exec")
    if not container.state.running or container.shim is None:
        raise Conflict(f"container {container.id} is not running")
