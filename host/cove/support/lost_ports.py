"""Published ports that a machine had and that another program has taken while it did not run: which, whose, who has them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from cove.agent.client import ask
from cove.errors import CoveError
from cove.machine import engine
from cove.machine.paths import MachinePaths

ANSWER_S = 4.0


@dataclass(frozen=True, slots=True)
class LostPort:
    """`port` as "127.0.0.1:8080/tcp"; `container` by its name, "" where it is not known; `reason` who has the port, or ""."""

    port: str
    container: str = ""
    reason: str = ""

    def shown(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        of = f" of the container {self.container}" if self.container else ""
        return f"{self.port}{of} is lost: {self.reason or 'another program has it'}"


def of_machine(paths: MachinePaths) -> list[LostPort]:
    """Those of a machine that runs; none when its agent does not say."""
    with contextlib.suppress(CoveError):
        return named(paths, ask(paths, "status", ANSWER_S).get("lost_ports", {}))
    return []


def named(paths: MachinePaths, lost: Mapping[str, str]) -> list[LostPort]:
    """What the agent tells of lost ports, with the containers' names as far as the engine says them in time."""
    owners: dict[str, str] = {}
    if lost:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            owners.update(_owners(paths, [*lost]))
    return [LostPort(port, owners.get(port, ""), reason) for port, reason in lost.items()]


def way_out(number: int = 1) -> str:
    """What to do about so many that are lost."""
    each = "it is" if number == 1 else "each is"
    return f"end that program; {each} published again when docker or `cove machine status` asks next"


def _owners(paths: MachinePaths, ports: list[str]) -> Iterator[tuple[str, str]]:
    """Lists of containers do not have lost ports: what each that runs was made with does."""
    deadline = time.monotonic() + ANSWER_S
    for one in engine.get(paths.docker_socket, "/containers/json", deadline):
        told = engine.get(paths.docker_socket, f"/containers/{quote(one['Id'])}/json", deadline)
        for inner, bindings in (told["HostConfig"].get("PortBindings") or {}).items():
            for binding in bindings or ():
                for port in ports:
                    if _means(binding, inner.partition("/")[2] or "tcp", port):
                        yield port, str(told["Name"]).removeprefix("/")


def _means(binding: Mapping[str, Any], proto: str, port: str) -> bool:
    """Whether a binding as a container was made with it, of one port or a range, is what has become `port`."""
    address, _, rest = port.rpartition(":")
    number, _, kind = rest.partition("/")
    first, _, last = str(binding.get("HostPort") or "").partition("-")
    if kind != proto or not first.isdecimal() or not (last or first).isdecimal():
        return False
    wanted = str(binding.get("HostIp") or "")
    return wanted in ("", address.strip("[]")) and int(first) <= int(number) <= int(last or first)
