"""The kill test with the whole machine: kill -9 of QEMU under load, as a power cut is to the guest.

What must be there afterwards is what was acknowledged: containers and how they ended, images, networks, volumes, and the records
in volumes whose numbers a client has read, for each is printed only when it is on the disk. Logs need not be.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

from kill_look import VmLook
from kill_model import World
from kill_run import Run

LOAD_S = 60.0
"""For so long the machine may be under load before it is killed, at most."""


class Follower(threading.Thread):
    """Reads what a writer prints, as it prints it; ``last`` is the last number that has come whole."""

    def __init__(self, docker_socket: str, container: str) -> None:
        super().__init__(daemon=True)
        self._path, self._container = docker_socket, container
        self.last = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection("docker", timeout=600)
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(self._path)
            connection.request("GET", f"/v1.51/containers/{self._container}/logs?follow=1&stdout=1")
            answer = connection.getresponse()
            while len(head := answer.read(8)) == 8:  # Engine API, "Stream format"
                for word in answer.read(int.from_bytes(head[4:], "big")).split():
                    self.last = int(word)
        connection.close()


class Followers(threading.Thread):
    """One for each writer that there is."""

    def __init__(self, docker_socket: str, world: World) -> None:
        super().__init__(daemon=True)
        self._path, self._world = docker_socket, world
        self._of: dict[str, Follower] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.3):
            for box in [*self._world.boxes.values()]:
                if box.kind == "writer" and box.id and box.status & {"running"} and box.id not in self._of:
                    self._of[box.id] = Follower(self._path, box.id)
                    self._of[box.id].start()

    def end(self) -> dict[str, int]:
        self._ended.set()
        self.join()
        return {id: one.last for id, one in self._of.items()}


class QemuRun(Run):
    """``machine``: a tests.conftest.Machine of its own; ``engine``: its VmEngine."""

    def __init__(self, machine: Any, engine: Any, seed: int, journal: Path) -> None:
        super().__init__(engine, VmLook(machine), seed, journal, first_port=26000)
        self._machine = machine
        self._synced: dict[str, int] = {}
        self._followers = Followers(str(engine.socket), self._world)
        self._followers.start()

    def _kill(self) -> str:
        wanted = self._journal.counts.get("answered", 0) + self._random.randrange(10, 40)
        deadline = time.monotonic() + LOAD_S
        while self._journal.counts.get("answered", 0) < wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._random.random() < 0.5:
            operations = (
                "create",
                "start",
                "stop",
                "remove",
                "exec",
                "rename",
                "image.create",
                "network.create",
                "connect",
            )
            self._aim.wait(self._random.choice(operations), 3.0)
            time.sleep(self._random.choice((0, 0.02, 0.1, 0.5)) * self._random.random())
        self._gate.close()
        self._all_dies()
        self.tally.kills["QEMU"] += 1
        return "QEMU"

    def _all_dies(self) -> None:
        pid = int((self._machine.folder / "qemu.pid").read_text())
        self._journal.killed("machine", "")
        self._begun = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        synced = self._followers.end()
        self.tally.synced += len(synced)
        for id, number in synced.items():
            self._synced[id] = max(number, self._synced.get(id, 0))
        self._checker.machine_died(self._synced)
        self._engine.close()  # its shell
        self._back([], self.tally.all_anew)
        self._journal.killed("machine is back", "")
        self._followers = Followers(str(self._engine.socket), self._world)
        self._followers.start()

    def _descriptors_left(self, before: Any) -> None:
        """It is another engine, of another boot."""

    def close(self) -> None:
        self._followers.end()
        super().close()
