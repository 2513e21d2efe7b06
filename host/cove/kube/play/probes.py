"""Probes become health checks.

A container's own command is its own check. What asks by network is asked by the pod's own container, which shares the
network and has the programs for it, whatever the container's image has (docs/decisions/0072).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cove.kube.play.environment import expanded
from cove.kube.play.fields import Fields
from cove.kube.play.plan import Body, Check

NS = 1_000_000_000
GRACE_S = 1
"""More than a command's own time, for it to be begun, and to tell of its end."""


@dataclass(frozen=True, slots=True)
class Probe:
    command: list[str]
    in_pause: bool
    delay_s: int
    period_s: int
    timeout_s: int
    failures: int

    @property
    def check(self) -> Check:
        timeout = self.timeout_s + GRACE_S
        return Check(self.command, self.in_pause, self.delay_s, self.period_s, self.failures, timeout)


@dataclass(frozen=True, slots=True)
class Probes:
    """What becomes of a container's probes: the one that is its health, and the one that its start waits for."""

    health: Probe | None
    startup: Probe | None


def read(container: Fields, ports: Mapping[str, int], variables: Mapping[str, str]) -> Probes:
    """`variables` are for `$(NAME)` in the commands."""
    startup = _probe(container, "startupProbe", ports, variables)
    readiness = _probe(container, "readinessProbe", ports, variables)
    liveness = _probe(container, "livenessProbe", ports, variables)
    if liveness is not None:
        shown = "is only shown as health" if readiness is None else "is not asked: health is the readinessProbe's"
        container.note(f"{container.path}.livenessProbe {shown}; the engine does not restart what is unhealthy")
    return Probes(readiness or liveness or startup, startup)


def _probe(container: Fields, name: str, ports: Mapping[str, int], variables: Mapping[str, str]) -> Probe | None:
    fields = container.inner(name)
    if fields is None:
        return None
    fields.ignore("successThreshold")
    if fields.has("terminationGracePeriodSeconds"):
        fields.ignore("terminationGracePeriodSeconds")
    timeout = fields.number("timeoutSeconds", 1, 1)
    command, in_pause = _command(fields, ports, variables, timeout)
    delay, period = fields.number("initialDelaySeconds", 0), fields.number("periodSeconds", 10, 1)
    failures = fields.number("failureThreshold", 3, 1)
    return Probe(command, in_pause, delay, period, timeout, failures) if command else None


def _command(
    fields: Fields, ports: Mapping[str, int], variables: Mapping[str, str], timeout: int
) -> tuple[list[str], bool]:
    if run := fields.inner("exec"):
        command = run.texts("command") or []
        if not command:
            run.wrong(f"{run.path}.command is missing")
        try:
            return [expanded(word, variables) for word in command], False
        except ValueError as error:
            run.wrong(f"{run.path}.command {error}")
            return [], False
    if asked := fields.inner("tcpSocket"):
        host, port = asked.text("host", "127.0.0.1"), _port(asked, ports)
        return ["timeout", str(timeout), "nc", host, str(port), "-e", "true"], True
    if asked := fields.inner("httpGet"):
        scheme = asked.text("scheme", "HTTP")
        if scheme != "HTTP":
            asked.cannot(f"{asked.path}.scheme: only HTTP is supported")
        path = asked.text("path", "/")
        url = f"http://{asked.text('host', '127.0.0.1')}:{_port(asked, ports)}{path if path[:1] == '/' else f'/{path}'}"
        headers: list[str] = []
        for header in asked.each("httpHeaders"):
            headers += ["--header", f"{header.text('name', needed=True)}: {header.text('value')}"]
        command = ["timeout", str(timeout), "wget", "-q", "-Y", "off", "-O", "/dev/null", *headers, url]
        return command if scheme == "HTTP" else [], True
    if fields.has("grpc"):
        fields.ignore("grpc")
        fields.cannot(f"{fields.path}.grpc is not supported")
    else:
        fields.wrong(f"{fields.path}: exec, httpGet or tcpSocket is missing")
    return [], False


def _port(fields: Fields, ports: Mapping[str, int]) -> int:
    node = fields.take("port")
    value = node.value if node else None
    if isinstance(value, str) and value in ports:
        return ports[value]
    if isinstance(value, str) and value.isdecimal() and len(value) <= len("65535"):
        value = int(value)
    if isinstance(value, int) and 0 < value < 65536:
        return value
    fields.wrong(f"{fields.path}.port: there is no port {value}" if node else f"{fields.path}.port is missing")
    return 0


def of_container(probes: Probes) -> Body | None:
    """The health check of a container, by its own command."""
    probe = probes.health
    return None if probe is None or probe.in_pause else _body(["CMD", *probe.command], [probe], probes.startup)


def of_pod(probes: Sequence[Probes]) -> Body | None:
    """The health check of the pod's own container: all that is asked by network."""
    asked = [each for each in probes if each.health and each.health.in_pause]
    found = [each.health for each in asked if each.health]
    if not found:
        return None
    startups = [each.startup for each in asked if each.startup]
    longest = max(startups, key=_grace, default=None)
    return _body(["CMD-SHELL", " && ".join(shlex.join(each.command) for each in found)], found, longest)


def _grace(probe: Probe) -> int:
    return probe.delay_s + probe.period_s * probe.failures


def _body(test: list[str], probes: Sequence[Probe], startup: Probe | None) -> Body:
    delay = max(each.delay_s for each in probes)
    period = min(each.period_s for each in probes)
    return {
        "Test": test,
        "Interval": period * NS,
        "Timeout": (sum(each.timeout_s for each in probes) + GRACE_S) * NS,
        "Retries": max(each.failures for each in probes),
        "StartPeriod": (delay + (_grace(startup) if startup else 0)) * NS,
        "StartInterval": min(period, startup.period_s if startup else period) * NS,
    }
