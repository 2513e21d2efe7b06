"""Checks of one machine: its files, its processes, its engine."""

from __future__ import annotations

import contextlib
import datetime
import socket
import time
from collections.abc import Iterator
from typing import Any

from cove.agent import disk as disks
from cove.agent import unattended
from cove.agent.client import NoAgent, answers, ask, out_of_reach
from cove.errors import CoveError
from cove.machine import crashes, engine, remote
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths
from cove.machine.remote import Remote
from cove.machine.running import vm_may_run
from cove.machine.sizes import approximate_size, format_size
from cove.support import lost_ports
from cove.support.findings import NOTE, OK, PROBLEM, WARNING, Found, cove_of, settings_of

ENGINE_S = 15.0
"""Under software emulation, on a busy computer, the first question after a start takes half of it."""
REGISTRY_S = 20.0
SKEW_S = 2.0


def runs(paths: MachinePaths) -> bool:
    """Whether there is an engine to ask, or should be one: asking never starts a machine."""
    return vm_may_run(paths) and paths.docker_socket.exists() and not paths.down.exists()


def why_not_asked(paths: MachinePaths) -> str:
    """Why there is no engine to ask; "" when there is one."""
    if not runs(paths):
        return "the machine does not run"
    if paths.remote.exists():
        with contextlib.suppress(CoveError):
            if ask(paths, "status", 4).get("state") == "unreachable":
                return "the other computer cannot be reached"
    return ""


def look_at_processes(paths: MachinePaths) -> Found:
    if not paths.settings.exists():
        yield NOTE, f"there is no machine {paths.name}"
        return
    agent, vm = not FileLock(paths.lock).is_free(), vm_may_run(paths)
    if not FileLock(paths.launch_lock).is_free():
        yield NOTE, "a command is starting the machine at this moment"
    if agent and not answers(paths):
        error = out_of_reach(paths)
        yield PROBLEM, error.message, error.hint
        return
    if agent:
        try:
            told = ask(paths, "status", 4)
        except NoAgent:
            told = {"state": "stopped"}
        except CoveError as error:
            yield PROBLEM, error.message, error.hint
            return
        yield OK, f"the agent answers; the machine is {told.get('state', '?')}"
        for one in lost_ports.named(paths, told.get("lost_ports", {})):
            yield WARNING, f"the published port {one}", lost_ports.way_out()
    elif vm:
        yield (
            WARNING,
            f"the {'engine' if paths.remote.exists() else 'VM'} runs without its agent, which was killed",
            f"cove machine start {paths.name} starts another; nothing is lost",
        )
    else:
        state = unattended.status(paths)["state"]
        yield OK, f"the machine {paths.name} is {state}; the next command starts it"
        for path in (paths.agent_socket, paths.docker_socket, paths.qmp_socket, paths.link_socket):
            if path.exists():
                yield (
                    NOTE,
                    f"{path} is left of a process that was killed",
                    "nothing needs to be done: the next start takes its place",
                )
                break
    ended = {} if vm else unattended.status(paths)
    if ended.get("ended_with_computer"):
        yield NOTE, "the VM ended with this computer, which was restarted or switched off while it ran"
    if crash := ended.get("crash"):
        words = "; ".join(crash["words"])
        yield (
            WARNING, f"the VM ended by itself last time: {crash['how']}" + (f" ({words})" if words else ""),
            f"the next client boots it again; what it said: cove machine logs {paths.name} ({paths.console_log})",
        )  # fmt: skip
        return
    if (last := crashes.load(paths)) is not None:
        said = f" ({'; '.join(last.words)})" if last.words else ""
        log = f" ({paths.console_log})" if last.what == "VM" else ""
        fix = f"what was said: {last.see(paths)}{log}; if it happens again, a report helps: cove diagnose {paths.name} --bundle"
        yield WARNING if last.is_fresh else NOTE, f"{last}{said}", fix


def look_at_disk(paths: MachinePaths) -> Found:
    from cove.drivers.qemu import qcow2

    if paths.vhdx.exists():
        try:
            size = disks.virtual_size(paths)
            disks.check_size(paths, settings_of(paths).disk)
        except CoveError as error:
            yield PROBLEM, error.message, error.hint
            return
        whole = f"{format_size(size)}, " if size is not None else ""
        yield OK, f"{whole}{approximate_size(paths.vhdx.stat().st_size)} of this computer's disk taken"
        return
    if not paths.disk.exists():
        yield NOTE, "the machine has no disk yet: its first start makes it"
        return
    try:
        size = qcow2.virtual_size(paths.disk)
        mistakes = qcow2.mistakes(paths.disk)
    except CoveError as error:
        yield PROBLEM, error.message, error.hint
        return
    if mistakes:
        yield (
            PROBLEM, f"{paths.disk} is damaged: {'; '.join(mistakes)}",
            f"stop the machine, keep a copy, and let QEMU mend it: qemu-img check -r all '{paths.disk}'",
        )  # fmt: skip
        return
    used = qcow2.allocated(paths.disk)
    taken = f", {approximate_size(used)} of this computer's disk taken" if used is not None else ""
    yield OK, f"{format_size(size)}{taken}, and in order"
    try:
        disks.check_size(paths, settings_of(paths).disk)
    except CoveError as error:
        yield PROBLEM, error.message, error.hint


def look_at_engine(paths: MachinePaths) -> Found:
    if why := why_not_asked(paths):
        yield NOTE, f"{why}, so that its engine cannot be asked"
        return
    deadline = time.monotonic() + ENGINE_S
    answered = False
    try:
        engine.get(paths.docker_socket, "/_ping", deadline)
        answered = True
        version = engine.get(paths.docker_socket, "/version", deadline)
        info = engine.get(paths.docker_socket, "/info", deadline)
    except (OSError, ValueError) as error:
        if answered and isinstance(error, TimeoutError):
            yield (
                WARNING,
                f"the engine answers, but not to all within {ENGINE_S:.0f} s",
                f"the computer, or the machine, may be very busy; once more: cove diagnose {paths.name}",
            )
            return
        yield (
            PROBLEM, f"the engine does not answer at {paths.docker_socket}: {error}",
            f"see why: {_engines_log(paths)}; then: cove machine restart {paths.name}",
        )  # fmt: skip
        return
    count = f"{_count(info.get('Containers'), 'container')}, {_count(info.get('Images'), 'image')}"
    yield OK, f"engine {version.get('Version')}, API {version.get('ApiVersion')}, {count}"
    if warnings := info.get("Warnings"):
        limits = any("limit support" in one for one in warnings)
        fix = "containers run, without these limits: the kernel there, or who started the engine, has no such cgroup controllers"
        yield NOTE, f"the engine says: {'; '.join(warnings)}", fix if limits else ""


def _engines_log(paths: MachinePaths) -> str:
    """The command that shows what an engine has said."""
    if (there := remote.load(paths)) is None:
        return f"cove machine ssh -m {paths.name} 'tail -50 /var/lib/cove/log/engine.log'"
    return f"cove machine logs {'' if there.is_ours else '--agent '}{paths.name}"


def _count(number: Any, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def look_at_clock(paths: MachinePaths) -> Found:
    if why := why_not_asked(paths):
        yield NOTE, why
        return
    before = time.time()
    info = engine.get(paths.docker_socket, "/info", time.monotonic() + ENGINE_S)
    after = time.time()
    there = _moment(info["SystemTime"])
    # It read its clock at some moment in between; what that leaves open is no skew.
    skew = there - after if there > after else there - before if there < before else 0.0
    if abs(skew) > SKEW_S:
        yield (
            WARNING, f"the machine's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this computer's",
            f"certificates and builds may fail of it: cove machine restart {paths.name}",
        )  # fmt: skip
    else:
        yield (
            OK,
            f"the machine's clock differs by no more than {abs(skew) + (after - before):.1f} s from this computer's",
        )


def _moment(text: str) -> float:
    return datetime.datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()


def look_at_registry(paths: MachinePaths) -> Found:
    """Names, network, proxy and certificates at once, as a pull meets them: the engine is asked what an image is at its registry."""
    if why := why_not_asked(paths):
        yield NOTE, f"{why}, so that nothing can be said of its network"
        return
    try:
        engine.get(paths.docker_socket, "/distribution/busybox/json", time.monotonic() + REGISTRY_S)
    except engine.Refusal as error:
        yield from _refused(error, cove_of(paths), remote.load(paths))
    except (OSError, ValueError) as error:
        yield (
            WARNING,
            f"the engine did not say within {REGISTRY_S:.0f} s whether it reaches Docker Hub: {error}",
            f"look at the network of {_where(remote.load(paths))}, and its proxy",
        )
    else:
        yield OK, "Docker Hub is reached from the machine"


def _where(there: Remote | None) -> str:
    return "this computer" if there is None else str(there.address)


def _refused(
    error: engine.Refusal, cove: str, there: Remote | None
) -> Iterator[tuple[str, str] | tuple[str, str, str]]:
    words = error.message
    mirror = f"give a mirror: {cove} config set registry_mirrors https://MIRROR"
    if there is not None and not there.is_ours:
        mirror = f"give {there.engine} a mirror there"
    if "is not allowed by your administrator's policy" in words:
        yield NOTE, "Docker Hub is not allowed by the administrator's policy, and is not asked"
    elif error.status == 403:  # Docker Hub itself says 401: this is most often a page of what filters connections
        yield (
            WARNING,
            f"Docker Hub, or what answers in its place, refuses the machine: {words[:120]}",
            f"a proxy or a firewall may forbid it: ask who runs your network; or {mirror}",
        )
    elif error.status in (401, 404, 429) or "toomanyrequests" in words.lower():
        yield OK, f"Docker Hub is reached from the machine (it says: {words[:120]})"
    elif "no such host" in words or "lookup" in words or "server misbehaving" in words:
        resolver = (
            "the machine asks this computer's own resolver: when this computer finds them, restart the machine after a change of networks"
            if there is None
            else f"{there.address} asks its own resolver, /etc/resolv.conf there"
        )
        yield WARNING, f"names are not found from the machine: {words}", f"{resolver}; else {mirror}"
    elif "x509" in words or "certificate" in words.lower():
        yield (
            WARNING, f"the registry's certificate is not trusted in the machine: {words}",
            "connections may be inspected where you are: have the authority's certificate put into this computer's store, or give"
            f" it: {cove} config set extra_certificates /PATH/TO/IT.pem",
        )  # fmt: skip
    else:
        yield (
            WARNING,
            f"Docker Hub is not reached from the machine: {words}",
            f"look at the network of {_where(there)}, and its proxy; or {mirror}",
        )


def look_at_ports(paths: MachinePaths) -> Found:
    if why := why_not_asked(paths):
        yield NOTE, f"{why}, so that nobody can say what is published"
        return
    containers = engine.get(paths.docker_socket, "/containers/json", time.monotonic() + ENGINE_S)
    published, untried = _published(containers)
    good = 0
    for name, address, port in published:
        try:
            socket.create_connection((address, port), 2).close()
            good += 1
        except OSError as error:
            yield (
                PROBLEM, f"{address}:{port}, which the container {name} publishes, is not open on this computer: {error.strerror or error}",
                f"{cove_of(paths)} restart {name}; the agent's log may say why: cove machine logs --agent {paths.name}",
            )  # fmt: skip
    if good:
        yield OK, f"{_ports(good)} open"
    if untried:
        yield OK, f"{_ports(untried)} of UDP or IPv6, and not tried"
    # Those that another program has taken are not in the engine's list.
    lost = len(lost_ports.of_machine(paths))
    if lost:
        yield NOTE, f"{_ports(lost)} lost, as is said of processes"
    if not (published or untried or lost):
        yield OK, "no ports are published"


def _ports(number: int) -> str:
    return "1 published port is" if number == 1 else f"{number} published ports are"


def _published(containers: list[dict[str, Any]]) -> tuple[list[tuple[str, str, int]], int]:
    """Container, address and port of what a connection can tell of, and how many others there are."""
    found, others = set(), set()
    for container in containers:
        for port in container.get("Ports") or ():
            if not port.get("PublicPort"):
                continue
            address, number = port.get("IP") or "127.0.0.1", int(port["PublicPort"])
            if port.get("Type") == "tcp" and ":" not in address:
                name = str(container["Names"][0]).removeprefix("/")
                found.add((name, "127.0.0.1" if address == "0.0.0.0" else address, number))
            else:
                others.add((address, number, port.get("Type")))
    return sorted(found), len(others)
