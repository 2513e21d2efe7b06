"""What containers and compose files say in the same words: users, capabilities, security options, hosts, health checks."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cove.kube.generate import terms
from cove.kube.generate.model import Health, Note, Workload

NUMBERS = f"Kubernetes takes numbers only, up to {terms.MOST_IDENTITY}"
Lose = Callable[[str], None]
"""Told what of the workload cannot be carried."""


def made_here(key: str, image: str) -> Note:
    """Of a workload whose image no registry has."""
    return Note(
        key, f"image {image} is here alone: a cluster gets it of a registry (cove kube deploy --registry)", lost=False
    )


def plain(
    workload: Workload, *, folder: str, tty: bool, stdin: bool, read_only: bool, privileged: bool, grace_s: float | None
) -> None:
    """What is said by a word or a truth, and is left out when it is as it is anyway."""
    container = {"workingDir": folder, "tty": tty, "stdin": stdin}
    security = {"readOnlyRootFilesystem": read_only, "privileged": privileged}
    workload.container |= {field: value for field, value in container.items() if value}
    workload.security |= {field: value for field, value in security.items() if value}
    if grace_s is not None:
        workload.pod["terminationGracePeriodSeconds"] = terms.whole_seconds(grace_s)


def user(workload: Workload, given: str, lose: Lose) -> None:
    """`user` of compose: a name or number, and a group's after ":"."""
    if not given:
        return
    name, _, of = given.partition(":")
    who, group = terms.identity(name), terms.identity(of)
    if who is None or (of and group is None):
        lose(f"user {given!r}: {NUMBERS}; the image's own user counts")
        return
    workload.security["runAsUser"] = who
    if group is not None:
        workload.security["runAsGroup"] = group
    if who:
        # Docker gives a new volume the owner that the image has there; a claim is root's otherwise.
        workload.pod_security["fsGroup"] = who if group is None else group
        workload.pod_security["fsGroupChangePolicy"] = "OnRootMismatch"


def groups(workload: Workload, given: Iterable[str], lose: Lose) -> None:
    for one in given:
        if (number := terms.identity(one)) is not None:
            workload.pod_security.setdefault("supplementalGroups", []).append(number)
        else:
            lose(f"group {one!r}: {NUMBERS}")


def capabilities(workload: Workload, add: Iterable[str], drop: Iterable[str]) -> None:
    for verb, names in (("add", add), ("drop", drop)):
        if found := [name.upper().removeprefix("CAP_") for name in names]:
            workload.security.setdefault("capabilities", {})[verb] = sorted(found)


def security_options(workload: Workload, options: Iterable[str], lose: Lose) -> None:
    for option in options:
        kind, value = [*re.split("[=:]", option, maxsplit=1), ""][:2]
        if kind == "no-new-privileges" and value in ("", "true"):
            workload.security["allowPrivilegeEscalation"] = False
        elif kind == "seccomp" and value == "unconfined":
            workload.security["seccompProfile"] = {"type": "Unconfined"}
        elif kind == "apparmor" and value == "unconfined":
            workload.security["appArmorProfile"] = {"type": "Unconfined"}
        elif kind != "no-new-privileges":
            lose(f"security option {option.partition('{')[0]}")


def hosts(workload: Workload, entries: Iterable[str], lose: Lose) -> None:
    """Lines of /etc/hosts, `NAME=ADDRESS` or `NAME:ADDRESS`."""
    by_address: dict[str, list[str]] = {}
    for entry in entries:
        name, address = [*re.split("[=:]", entry, maxsplit=1), ""][:2]
        if address == "host-gateway":
            lose(f"extra host {name}: a cluster has no host-gateway")
        else:
            by_address.setdefault(address.strip("[]"), []).append(name)
    if by_address:
        workload.pod["hostAliases"] = [
            {"ip": address, "hostnames": sorted(names)} for address, names in sorted(by_address.items())
        ]


def resolver(workload: Workload, servers: Sequence[str], search: Sequence[str], options: Sequence[str]) -> None:
    found: dict[str, Any] = {}
    if servers:
        found["nameservers"] = list(servers)
    if search:
        found["searches"] = list(search)
    if options:
        pairs = (option.partition(":") for option in options)
        found["options"] = [{"name": name, **({"value": value} if value else {})} for name, _, value in pairs]
    if found:
        workload.pod["dnsConfig"] = found


def names(given: Iterable[str], lose: Lose) -> list[str]:
    """Under which others look for it, as Kubernetes can have them."""
    return [_named("the name", name, lose) for name in sorted(set(given))]


def hostname(workload: Workload, given: str, lose: Lose) -> None:
    workload.pod["hostname"] = _named("the host name", given, lose)


def _named(what: str, name: str, lose: Lose) -> str:
    made = terms.label(name)
    if made != name:
        lose(f"{what} {name}: it is {made} in Kubernetes")
    return made


def is_loopback(address: str) -> bool:
    """Of the address on which a port is published; none is every one."""
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"


def kernel(workload: Workload, values: Mapping[str, str]) -> None:
    if values:
        workload.pod_security["sysctls"] = [{"name": name, "value": str(values[name])} for name in sorted(values)]


def namespaces(workload: Workload, network: str, pid: str, ipc: str, lose: Lose) -> None:
    if network == "host":
        workload.pod["hostNetwork"] = True
        workload.pod["dnsPolicy"] = "ClusterFirstWithHostNet"
    elif network == "none" or network.startswith(("service:", "container:")):
        lose(f"network mode {network}")
    for mode, key in ((pid, "hostPID"), (ipc, "hostIPC")):
        if mode == "host":
            workload.pod[key] = True
        elif mode and mode not in ("private", "shareable"):
            lose(f"{key[4:].lower()} mode {mode}")


def restart(workload: Workload, policy: str, most: int | None) -> None:
    """What is to end becomes a Job: a Deployment starts whatever has ended."""
    if policy == "no":
        workload.attempts = 0
        workload.pod["restartPolicy"] = "Never"
    elif policy == "on-failure":
        workload.attempts = most if most else 6
        workload.pod["restartPolicy"] = "OnFailure"


def health(test: Sequence[str] | str | None, given: Mapping[str, Any], names: Mapping[str, str]) -> Health | None:
    """Of a health check in compose's or the API's words; `names` says how `given` calls what a `Health` has."""
    words = ["CMD-SHELL", test] if isinstance(test, str) else list(test or ())
    if not words or words[0] == "NONE":
        return None
    kind, *rest = words
    command = ("/bin/sh", "-c", rest[0]) if kind == "CMD-SHELL" else tuple(rest)
    values: dict[str, Any] = {ours: terms.seconds(given[theirs]) for ours, theirs in names.items() if given.get(theirs)}
    if given.get("retries") or given.get("Retries"):
        values["retries"] = int(given.get("retries") or given["Retries"])
    return Health(command, **values)


def labels(workload: Workload, given: Mapping[str, str], lose: Lose) -> None:
    """Docker's labels hold any text, as Kubernetes' annotations do; its labels hold 63 characters of few kinds."""
    for key in sorted(given):
        if terms.is_annotation(key):
            workload.annotations[key] = str(given[key])
        else:
            lose(f"label {key}: no name for an annotation")
