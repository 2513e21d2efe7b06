"""``chroot SYSTEM python3 -m coved.remote start|stop|end NAME SYSTEM [UID GID] 3</``: an engine on this host begins, or ends.

``end`` is a ``stop`` for which nobody waits long, since the data go anyway. All are for root, and done already when there is nothing to
do. ``start`` reads what the laptop says of registries and of the world outside, as the VM's seed has it (docs/architecture.md), from its
standard input. Answers are one JSON object in one line, errors one with ``error``.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coved.boot import seed
from coved.boot.console import BootError
from coved.boot.places import CERTIFICATES, DATA, OUTSIDE, REGISTRIES, RUN, SOCKET
from coved.boot.services import said
from coved.errors import EngineError
from coved.remote import init, traces
from coved.remote.entering import EnteringError, bind, enter, mount_cgroups, mount_processes, seal
from coved.remote.places import BOOT_ID, CGROUP, HOST, KEPT, NAME, OF_THE_BOOT, PID, STREAMS, SYSTEM
from coved.runtime import syscalls
from coved.runtime.listening import listen

ROOT_FD = 3
TURN_S = 90.0
"""Seconds to wait for another that starts or stops the same engine."""
ANSWERS_S = 90.0
"""Seconds in which an engine answers: one that has much to take up, on a slow host."""
STOP_S = init.ENGINE_S + 15.0
LOG = f"{DATA}/log/remote.log"
_LOOK_S = 0.05
_NEWPID, _NEWCGROUP = 0x20000000, 0x02000000


_BUSY = "another command starts or stops the engine there, and does not come to an end"
_MUTE = "it runs there, and does not answer: cove machine restart ends it and starts it again"


class Failure(Exception):
    """What is said to the laptop."""


class Folders:
    """Of one engine, as the namespace has them in which its host is at /host."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kept = Path(f"{HOST}{KEPT}/{name}")
        self.state = Path(f"{HOST}{OF_THE_BOOT}/{name}")

    def told(self, name: str) -> str:
        """A file of the boot's folder; "" while it is not there."""
        try:
            return (self.state / name).read_text("utf-8").strip()
        except FileNotFoundError:
            return ""

    def tell(self, name: str, text: str) -> None:
        (self.state / name).write_text(f"{text}\n", "utf-8")

    def pid(self) -> int:
        """Of the engine's PID 1; 0 when there is none. A killed one's may be somebody else's number by now."""
        pid = int(self.told(PID) or 0)
        return pid if pid and _is_of(self.name, pid) else 0

    def lock(self) -> int:
        """Held by an engine for as long as it runs, and by whoever starts or stops one."""
        return os.open(self.kept / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _is_of(name: str, pid: int) -> bool:
    """Whether it is a process of that engine, which are in its cgroup."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    group = os.path.basename(CGROUP + name)
    return any(line.startswith("0::") and group in line.split("/") for line in lines)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def start(name: str, uid: int, gid: int, told: Mapping[str, Any], system: str) -> dict[str, Any]:
    folders = Folders(name)
    lock = folders.lock()
    deadline = time.monotonic() + TURN_S
    while not _taken(lock):
        boot, pid = folders.told(BOOT_ID), folders.pid()
        if boot and pid and _answers(f"{HOST}/proc/{pid}/root{SOCKET}"):
            # Of who logs in now: it may be another user than the one who had it started.
            os.chown(folders.state / STREAMS, uid, gid, follow_symlinks=False)
            return _running(folders, boot, began=False)
        if time.monotonic() > deadline:
            raise Failure(_MUTE if boot and pid else _BUSY)
        time.sleep(_LOOK_S)
    traces.clear(name, folders.state)  # of one that was killed
    folders.state.parent.mkdir(mode=0o755, exist_ok=True)
    folders.state.mkdir(mode=0o711)
    _own_cgroup(name)
    bind(str(folders.state), RUN)
    data = folders.kept / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    bind(str(data), DATA)
    _write(name, told)
    door = _door(uid, gid)
    seal()
    syscalls.unshare(_NEWPID | _NEWCGROUP)
    mount_cgroups()
    _leave_root_of_cgroups()
    waits, goes = os.pipe()
    if not (pid := os.fork()):
        os.close(goes)
        _become_init(waits, door)
    door.close()
    os.close(waits)
    folders.tell(SYSTEM, system)
    folders.tell(PID, str(pid))
    boot = json.loads(Path(f"{RUN}/seed.json").read_text())["boot_id"]
    os.write(goes, b"\n")
    _wait_for_answer(pid)
    folders.tell(BOOT_ID, boot)
    return _running(folders, boot, began=True)


def _running(folders: Folders, boot: str, *, began: bool) -> dict[str, Any]:
    return {"boot_id": boot, "system": folders.told(SYSTEM), "began": began}


def _own_cgroup(name: str) -> None:
    """This process is the first in a new one: what limits there may be, containers can have."""
    group = Path(CGROUP + name)
    available = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
    for one in available:
        try:  # one by one: a host may keep one for itself
            Path("/sys/fs/cgroup/cgroup.subtree_control").write_text(f"+{one}")
        except OSError:
            continue
    group.mkdir()
    (group / "cgroup.procs").write_text("0")


def _leave_root_of_cgroups() -> None:
    """Only a cgroup without processes hands its controllers on."""
    engine = Path("/sys/fs/cgroup/cove-engine")
    engine.mkdir()
    (engine / "cgroup.procs").write_text("0")


def _write(name: str, told: Mapping[str, Any]) -> None:
    """What the engine and the streams expect to find, as the VM's PID 1 makes it of the seed. Raises BootError."""
    for folder in (f"{RUN}/ssh", CERTIFICATES):
        os.makedirs(folder, 0o700)
    registries, certificates = seed.registries(told.get("registries") or {})
    seed.private(NAME, name)
    seed.private(f"{RUN}/seed.json", json.dumps({"boot_id": uuid.uuid4().hex, "machine": name, "hostname": name}))
    seed.private(REGISTRIES, registries)
    if told.get("outside") is not None:
        seed.private(OUTSIDE, json.dumps(told["outside"]))
    for path, text in certificates.items():
        os.makedirs(f"{CERTIFICATES}/{os.path.dirname(path)}", 0o700, exist_ok=True)
        seed.private(f"{CERTIFICATES}/{path}", text)


def _door(uid: int, gid: int) -> socket.socket:
    """Where streams come in: the socket of the user who logs in to this host."""
    door = listen(f"{RUN}/{STREAMS}")
    os.chown(f"{RUN}/{STREAMS}", uid, gid)
    return door


def _become_init(waits: int, door: socket.socket) -> None:
    """Does not return. Nothing is begun when the parent has ended before all was noted down."""
    status = 1
    try:
        os.setsid()
        if os.read(waits, 1):
            os.close(waits)
            mount_processes()
            os.makedirs(os.path.dirname(LOG), 0o700, exist_ok=True)
            null, log = os.open("/dev/null", os.O_RDWR), os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            for source, target in ((null, 0), (log, 1), (log, 2)):
                os.dup2(source, target)
            status = init.serve(door)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        try:
            client.connect(path)
            client.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            return b" 200 " in client.recv(64)
        except OSError:
            return False


def _wait_for_answer(pid: int) -> None:
    """Nothing tells when an engine answers but its answer."""
    deadline = time.monotonic() + ANSWERS_S
    while not _answers(SOCKET):
        ended, _ = os.waitpid(pid, os.WNOHANG)
        if ended or time.monotonic() > deadline:
            if not ended:
                os.kill(pid, signal.SIGKILL)
            last = said("engine") or said("remote") or "it said nothing"
            raise Failure(last.removeprefix("coved: "))
        time.sleep(_LOOK_S)


def stop(name: str, *, soon: bool) -> dict[str, Any]:
    folders = Folders(name)
    lock = folders.lock()
    deadline = time.monotonic() + TURN_S
    while not _taken(lock):
        if time.monotonic() > deadline:
            raise Failure(_BUSY)
        if pid := folders.pid():
            _end(name, pid, init.SOON if soon else signal.SIGTERM)
        time.sleep(_LOOK_S)
    traces.clear(name, folders.state)
    return {}


def _end(name: str, pid: int, order: signal.Signals) -> None:
    """In order, and otherwise at once, with all that it runs; nothing when the number is no process of that engine."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    try:
        if not _is_of(name, pid):  # looked at once more: from here on the descriptor is that process
            return
        signal.pidfd_send_signal(descriptor, order)
        if not poll.poll(STOP_S * 1000):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            poll.poll(STOP_S * 1000)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def main(words: list[str]) -> int:
    verb, name, system, *user = words
    try:
        told = json.load(sys.stdin) if verb == "start" else {}
        enter(ROOT_FD, system)
        answer = (
            start(name, int(user[0]), int(user[1]), told, system) if verb == "start" else stop(name, soon=verb == "end")
        )
    except (Failure, EnteringError, BootError, EngineError) as error:
        answer = {"error": str(error)}
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        answer = {"error": f"{where}{error.strerror or error}"}
    print(json.dumps(answer))
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
