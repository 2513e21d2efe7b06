"""Cove's engine on a host: looked for, installed, started, stopped and removed (docs/decisions/0074)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coved.remote.places import KEPT, OF_THE_BOOT, STREAMS

from cove.errors import RemoteError
from cove.machine import architecture
from cove.machine.architecture import Architecture
from cove.plain import printable
from cove.progress import Event, Report, ignore
from cove.remote import scripts
from cove.remote.host import Host, Ran
from cove.remote.payload import Payload

LEAST_KERNEL = (5, 14)
"""cgroup.kill; what else the engine needs is older."""
LOOK_S, INSTALL_S, START_S, STOP_S, REMOVE_S = 60.0, 1800.0, 240.0, 240.0, 900.0
_TOLD = ("machine", "kernel", "system", "login", "root", "cgroup", "uid", "gid")
_DIGITS = re.compile(r"[0-9a-f]{1,64}")
_ID = re.compile(r"[0-9]{1,10}")
_ENGINE = re.compile(r"([0-9a-f]{1,64}) (up|down) (.*)")
_PATH = re.compile(r"/[\w./-]{1,107}", re.ASCII)
_HINT_ROOT = (
    "log in as root, or let this user run sudo without a password; an engine without root is not offered"
    " (one that is there, docker's or podman's, can be used: --engine docker)"
)
_KEPT_OUT = (
    "that host's iptables forwards nothing, and cannot be told to let containers through: they reach nobody until"
    " iptables -I FORWARD -i cove+ -j ACCEPT and iptables -I FORWARD -o cove+ -j ACCEPT are run there"
)


@dataclass(frozen=True, slots=True)
class Installed:
    """An engine of Cove's, of whichever laptop's machine."""

    name: str
    running: bool
    label: str


@dataclass(frozen=True, slots=True)
class Found:
    """A host, and what it has. ``root``: "yes", "sudo" or "no"; ``cgroup``: "v2", "hybrid", "v1" or "none"; ``docker`` and ``podman``:
    sockets that the user may open, or ""."""

    machine: str
    kernel: str
    login: str
    uid: int
    gid: int
    root: str
    cgroup: str
    system: str = "Linux"
    docker: str = ""
    podman: str = ""
    missing: tuple[str, ...] = ()
    engines: tuple[Installed, ...] = ()

    @property
    def architecture(self) -> Architecture:
        """Raises `RemoteError` when Cove has no engine for it."""
        try:
            return architecture.named(self.machine)
        except KeyError:
            raise RemoteError(f"Cove has no engine for that host's processor ({self.machine})") from None

    @property
    def version(self) -> tuple[int, int]:
        found = re.match(r"(\d{1,9})\.(\d{1,9})", self.kernel)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def check(self) -> None:
        """Raise `RemoteError` when Cove's engine cannot run there."""
        if self.system != "Linux":
            raise RemoteError(f"that host runs {self.system}, and Cove's engine needs Linux")
        if self.root == "no":
            raise RemoteError(f"{self.login} is not root there, and may not become it", _HINT_ROOT)
        if self.version < LEAST_KERNEL:
            least = ".".join(map(str, LEAST_KERNEL))
            raise RemoteError(f"that host has Linux {self.kernel}, and Cove's engine needs {least} or newer")
        if self.cgroup != "v2":
            has = {"hybrid": "cgroup v1 and v2 mixed", "v1": "cgroup v1"}.get(self.cgroup, "no cgroups")
            raise RemoteError(
                f"that host has {has}, and Cove's engine needs cgroup v2",
                "boot it with systemd.unified_cgroup_hierarchy=1 on the kernel's command line",
            )
        if self.missing:
            raise RemoteError(f"that host has no {' and no '.join(self.missing)}, by which the engine comes there")
        _ = self.architecture


@dataclass(frozen=True, slots=True)
class Running:
    """``streams``: a unix socket of the host that speaks `coved.streams.frames`, the login's own. ``began``: it did not run before.
    ``amiss``: what does not work there though it runs, or ""."""

    streams: str
    boot_id: str
    digest: str
    began: bool
    amiss: str = ""


def look(host: Host) -> Found:
    """What is there. Raises `RemoteError`."""
    ran = host.run(scripts.words(scripts.LOOK), timeout_s=LOOK_S)
    if ran.status:
        raise _failed("that host cannot be looked at", ran)
    told: dict[str, list[str]] = {}
    for line in ran.out.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition("=")
        told.setdefault(key, []).append(printable(value))
    one = {key: told[key][0] for key in _TOLD if key in told}
    uid, gid = one.pop("uid", ""), one.pop("gid", "")
    if len(one) != len(_TOLD) - 2 or not (_ID.fullmatch(uid) and _ID.fullmatch(gid)):
        raise _failed("that host's shell does not answer as a POSIX shell does", ran)
    engines = [found.groups() for value in told.get("engine", []) if (found := _ENGINE.fullmatch(value))]
    return Found(
        **one, uid=int(uid), gid=int(gid),
        docker=_socket(told.get("docker", [])), podman=_socket(told.get("podman", [])),
        missing=tuple(told.get("missing", [])),
        engines=tuple(Installed(name, state == "up", label) for name, state, label in engines),
    )  # fmt: skip


def _socket(said: list[str]) -> str:
    """A path, and nothing that a shell would take for something else; "" for none."""
    return next((path for path in said[:1] if _PATH.fullmatch(path)), "")


@dataclass
class RemoteEngine:
    """One engine on one host, for one machine of a laptop: others there, also of the same user, are others' business.

    Args:
        name: 16 hexadecimal digits, the machine's own for good.
        label: a line by which people there know whose it is.
    """

    host: Host
    name: str
    label: str
    _found: Found | None = field(default=None, init=False)

    @property
    def found(self) -> Found:
        """The host, looked at once."""
        if self._found is None:
            self._found = look(self.host)
        return self._found

    def install(self, payload: Payload, progress: Report = ignore) -> None:
        """Have that system there; what an engine runs with stays until it is stopped. Raises `RemoteError`."""
        self.found.check()
        known = self._run(scripts.HAS, self.name, payload.digest, label=self.label, timeout_s=LOOK_S)
        if known.status:
            size = payload.archive.stat().st_size
            progress(Event("remote", f"sending the engine to the host ({size >> 20} MiB)"))
            with payload.archive.open("rb") as archive:
                ran = self._run(
                    scripts.INSTALL, self.name, payload.digest, label=self.label, stdin=archive, timeout_s=INSTALL_S
                )
            if ran.status:
                raise _failed(
                    "the engine cannot be installed on that host", ran,
                    f"it needs 200 MB in {KEPT}, on a file system from which programs may be run",
                )  # fmt: skip
        self._run(scripts.TIDY, self.name, payload.digest, timeout_s=LOOK_S)

    def start(
        self, payload: Payload, registries: Mapping[str, Any] | None = None, outside: Mapping[str, Any] | None = None
    ) -> Running:
        """Have it run; one that does is taken as it is, whatever its version. Raises `RemoteError`.

        Args:
            payload: installed.
            registries, outside: as the VM's seed has them (docs/architecture.md); a running engine keeps those it has.
        """
        self.found.check()
        told = json.dumps({"registries": registries or {}, "outside": outside}).encode()
        ids = (f"{self.found.uid}", f"{self.found.gid}")
        ran = self._run(scripts.START, self.name, payload.digest, *ids, stdin=told, timeout_s=START_S)
        answer = _answer("the engine does not start on that host", ran, "system", "boot_id")
        digest, boot_id = answer["system"].rpartition("system-")[2], answer["boot_id"]
        if not (_DIGITS.fullmatch(digest) and _DIGITS.fullmatch(boot_id)):
            raise _failed("the engine that runs on that host is none of Cove's", ran)
        streams = f"{OF_THE_BOOT}/{self.name}/{STREAMS}"
        amiss = _KEPT_OUT if scripts.KEPT_OUT.encode() in ran.out.split() else ""
        return Running(streams, boot_id, digest, bool(answer.get("began")), amiss)

    def stop(self, *, hurried: bool = False) -> None:
        """Containers are stopped, and nothing of it is there but its files; ``hurried``: containers have little time for it.

        Raises `RemoteError`.
        """
        self._stop(scripts.END if hurried else scripts.STOP)

    def _stop(self, script: str) -> None:
        ran = self._run(script, self.name, timeout_s=STOP_S)
        if ran.status or ran.out.strip():
            _answer("the engine on that host does not stop", ran)

    def remove(self) -> None:
        """Nothing of it is there any more, its data included. Raises `RemoteError`."""
        self._stop(scripts.END)
        ran = self._run(scripts.REMOVE, self.name, timeout_s=REMOVE_S)
        if ran.status:
            raise _failed("the engine's files on that host cannot be removed", ran)

    def log(self) -> bytes:
        """The last of what the engine has written down, at most 1 MiB. Raises `RemoteError`."""
        ran = self._run(scripts.LOG, self.name, timeout_s=LOOK_S)
        if ran.status:
            raise _failed("the engine's log on that host cannot be read", ran)
        return ran.out

    def _run(self, script: str, *values: str, label: str | None = None, stdin: Any = b"", timeout_s: float) -> Ran:
        if self.found.root == "no":
            raise RemoteError(f"{self.found.login} is not root there, and may not become it", _HINT_ROOT)
        root = "sudo" if self.found.root == "sudo" else ""
        return self.host.run(scripts.words(script, *values, label=label, root=root), stdin=stdin, timeout_s=timeout_s)


def _answer(failure: str, ran: Ran, *texts: str) -> dict[str, Any]:
    """What a script said, with these texts in it. Raises `RemoteError`."""
    line = next((line for line in reversed(ran.out.splitlines()) if line.startswith(b"{")), b"")
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        raise _failed(failure, ran) from None
    if isinstance(error := answer.get("error"), str):
        raise RemoteError(f"{failure}: {error}")
    if ran.status or not all(isinstance(answer.get(key), str) for key in texts):
        raise _failed(failure, ran)
    return dict(answer)


def _failed(failure: str, ran: Ran, hint: str = "") -> RemoteError:
    said = (ran.err or ran.out).decode("utf-8", "replace").strip()
    last = said.rpartition("\n")[2][:300]
    return RemoteError(f"{failure}: {last or f'exit status {ran.status}'}", hint)
