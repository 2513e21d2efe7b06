"""`cove machine`: machines, their life and their settings."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from cove.cli.clicked import Group, Integer, MachineName, switch
from cove.cli.command import Context, confirm
from cove.cli.errors import CliError
from cove.errors import CoveError, MachineNotFound, SettingsError
from cove.machine.paths import DEFAULT_MACHINE

STOP_TIMEOUT_S = 120.0
SUSPEND_TIMEOUT_S = 120.0


def _machine(context: Context, chosen: str) -> str:
    return chosen or context.machine or os.environ.get("COVE_MACHINE") or DEFAULT_MACHINE


_option = click.option("--machine", "-m", "chosen", type=MachineName(), default="", help="The machine (COVE_MACHINE)")


def _chosen(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """For a command with arguments of its own: the machine is named with -m."""

    @functools.wraps(command)
    @click.pass_obj
    def resolved(context: Context, /, chosen: str, **values: Any) -> int | None:
        return command(_machine(context, chosen), **values)

    return _option(resolved)


def _named(command: Callable[..., None]) -> Callable[..., None]:
    """For a command about one machine and nothing else: named as an argument, or with -m as everywhere."""

    @functools.wraps(command)
    @click.pass_obj
    def resolved(context: Context, /, given: str | None, chosen: str, **values: Any) -> None:
        if given and chosen not in ("", given):
            raise CliError(f"cove: two machines are named, {given} and {chosen}")
        command(given or _machine(context, chosen), **values)

    return click.argument("given", metavar="[NAME]", required=False)(_option(resolved))


@click.group("machine", cls=Group, aliases={"ls": "list", "remove": "rm"})
def group() -> None:
    """Manage Cove's machines"""


@group.command()
@_named
@click.option("--cpus", type=Integer(), help="Virtual processors")
@click.option("--memory", help="The most memory it can have, such as 4GiB")
@click.option("--disk", help="The most its disk can take, such as 100GiB")
def init(name: str, **sizes: Any) -> None:
    """Make a machine; the first command that needs it starts it"""
    from cove.machine import lifecycle, settings

    file = settings.render(settings.Settings())
    for key in ("cpus", "memory", "disk"):
        if sizes[key] is not None:
            file = settings.with_value(file, key, str(sizes[key]), "the command line")
    paths = lifecycle.init(name, settings.parse(file, "the command line"))
    print(f"made machine {name}; its settings are {paths.settings}")


@group.command()
@_named
def start(name: str) -> None:
    """Start a machine, and make it when it is missing"""
    _start(name)


def _start(name: str) -> None:
    from cove.agent.launch import ensure_running
    from cove.progress import renderer

    with renderer(f"Cove is starting machine {name}") as report:
        socket = ensure_running(name, report)
    print(f"machine {name} is running; its docker socket is {socket}")


@group.command()
@_named
def stop(name: str) -> None:
    """Stop a machine: containers first, then the VM; nothing is lost"""
    if _status(name)["state"] == "suspended":
        _start(name)  # what runs in it ends in order
    _stop(name)
    print(f"machine {name} is stopped")


@group.command()
@_named
def suspend(name: str) -> None:
    """Write a machine's memory to the disk; the next command that needs it goes on from there"""
    from cove.agent.client import NoAgent, ask
    from cove.agent.launch import ensure_running
    from cove.machine import lifecycle
    from cove.machine.locks import FileLock
    from cove.progress import renderer

    paths = lifecycle.existing(name)
    if (state := _status(name)["state"]) in ("stopped", "suspended"):
        print(f"machine {name} is {state}")
        return
    with renderer(f"Cove is suspending machine {name}") as report:
        try:
            ask(paths, "suspend", SUSPEND_TIMEOUT_S, report)
        except NoAgent:
            if FileLock(paths.vm_lock).is_free():
                raise
            ensure_running(name, report)  # its agent was killed: a new one takes the VM over
            ask(paths, "suspend", SUSPEND_TIMEOUT_S, report)
    print(f"machine {name} is suspended")


@group.command()
@_named
def resume(name: str) -> None:
    """Go on with a suspended machine, as any command does that needs it"""
    state = _status(name)["state"]
    if state == "stopped":
        raise CoveError(f"the machine {name} is stopped, not suspended", f"start it with: cove machine start {name}")
    _start(name)


def _stop(name: str) -> None:
    from cove.agent.client import NoAgent, ask
    from cove.agent.launch import start_agent
    from cove.machine import lifecycle
    from cove.machine.locks import FileLock
    from cove.progress import renderer

    paths = lifecycle.existing(name)
    with renderer(f"Cove is stopping machine {name}") as report:
        try:
            ask(paths, "stop", STOP_TIMEOUT_S, report)
        except NoAgent:
            if not FileLock(paths.vm_lock).is_free():
                # Its agent was killed: a new one takes the VM over and stops it as it should be.
                start_agent(paths)
                ask(paths, "stop", STOP_TIMEOUT_S, report)
    lock = FileLock(paths.lock)
    lock.acquire(30, f"machine {name}")
    lock.release()


@group.command()
@_named
def restart(name: str) -> None:
    """Stop a machine and start it again"""
    _stop(name)
    _start(name)


@group.command()
@_named
@switch("--json", "as_json", help="Print JSON")
def status(name: str, as_json: bool) -> None:
    """Tell what a machine does, what accelerates it and why, and what it takes"""
    told = _status(name)
    if as_json:
        print(json.dumps(told, indent=1))
        return
    for key, shown in _rows(told):
        print(f"{key:<14} {shown}")


def _rows(value: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("machine", value["machine"]), ("state", value["state"])]
    if "agent_pid" in value and value["agent_pid"] is None:
        rows.append(("agent", "none; the next command that needs the machine starts one"))
    if trouble := value.get("trouble"):
        rows += [("trouble", trouble), ("", f"make room, then: cove machine start {value['machine']}")]
    if crash := value.get("crash"):
        rows.append(("ended", f"{crash['how']}, without being told to"))
        rows += [("" if number else "last words", word) for number, word in enumerate(crash["words"])]
    if "accelerator" in value:
        reason = f" ({value['accelerator_reason']})" if value["accelerator_reason"] else ""
        engine, api = (value.get(key, "?") for key in ("engine_version", "api_version"))
        started = f", started in {value['boot_seconds']:.1f} s" if value.get("boot_seconds") else ""
        used = value.get("host_memory")
        rows += [
            ("accelerator", f"{value['accelerator']}{reason}"),
            ("versions", f"engine {engine}, API {api}, QEMU {value['qemu_version']}"),
            ("image", str(value["image"])[:16]),
            ("uptime", f"{_span(value['uptime_seconds'])}{started}"),
            (
                "memory",
                # What is taken has QEMU's own share in it, and can be more than the machine itself may have.
                (f"{used >> 20} MiB of this computer's, QEMU included; " if used else "")
                + f"the machine has at most {value['memory'] >> 20} MiB",
            ),
        ]
    used = "none yet" if value["disk_used"] is None else f"{value['disk_used'] / 2**20:.0f} MiB"
    return [*rows, ("disk", used), ("docker socket", value["docker_socket"])]


def _span(seconds: float) -> str:
    """ "42 s", "5 min 3 s", "2 h 4 min", "3 d 2 h"."""
    whole = int(seconds)
    for unit, size, smaller, divisor in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // divisor} {smaller}"
    return f"{whole} s"


def _status(name: str) -> dict[str, Any]:
    from cove.agent import runstate
    from cove.agent.client import NoAgent, ask
    from cove.drivers.qemu.qcow2 import allocated
    from cove.machine import lifecycle

    paths = lifecycle.existing(name)
    try:
        value = ask(paths, "status", 10)
        value.pop("done", None)
    except NoAgent:
        value = runstate.without_agent(paths)
    used = allocated(paths.disk) if paths.disk.exists() else None
    return {"machine": name, **value, "disk_used": used, "docker_socket": str(paths.docker_socket)}


@group.command("list")
@switch("--json", "as_json", help="Print JSON")
def list_machines(as_json: bool) -> None:
    """List the machines"""
    from cove.machine import lifecycle

    machines = [_status(name) for name in lifecycle.names()]
    if as_json:
        print(json.dumps(machines, indent=1))
        return
    print(f"{'NAME':<20}{'STATE':<12}{'ACCELERATOR':<14}DOCKER SOCKET")
    for one in machines:
        print(f"{one['machine']:<20}{one['state']:<12}{one.get('accelerator', '-'):<14}{one['docker_socket']}")


@group.command()
@_named
@switch("--force", "-f", help="Do not ask; stop it when it runs")
def rm(name: str, force: bool) -> None:
    """Remove a machine with all its containers, images and volumes"""
    from cove.machine import lifecycle

    try:
        lifecycle.existing(name)
    except MachineNotFound as error:
        raise MachineNotFound(error.message, "see those that exist with: cove machine list") from None
    runs = _status(name)["state"] not in ("stopped", "suspended")
    if runs and not force:
        raise CoveError(
            f"the machine {name} is running", f"stop it first: cove machine stop {name}; or remove it with --force"
        )
    if not force and not confirm(f"Remove machine {name} with all its containers, images and volumes?"):
        raise CliError(
            f"the removal of machine {name} has been cancelled\n      to remove it without a question: cove machine rm --force {name}"
        )
    _stop(name)  # whatever its state: an agent may stay after its VM has died
    lifecycle.remove(name)
    print(f"removed machine {name}")


@group.command(context_settings={"allow_interspersed_args": False})  # ssh free -m
@_chosen
@click.argument("words", metavar="[COMMAND] [ARG...]", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, words: tuple[str, ...]) -> int:
    """Run a command in the machine itself, or a shell"""
    import shutil
    import subprocess

    from cove.agent.client import ask
    from cove.agent.launch import ensure_running
    from cove.machine.paths import MachinePaths
    from cove.progress import renderer

    program = shutil.which("ssh")
    if program is None:
        raise CoveError("there is no ssh program on this computer", "install OpenSSH's client")
    with renderer(f"Cove is starting machine {name}") as report:
        ensure_running(name, report, engine=False)
    paths = MachinePaths(name)
    port = ask(paths, "status", 10)["ssh_port"]
    options = {
        "IdentityFile": paths.ssh_key, "IdentitiesOnly": "yes", "UserKnownHostsFile": paths.known_hosts,
        "HostKeyAlias": f"cove-{name}", "StrictHostKeyChecking": "yes", "LogLevel": "ERROR",
    }  # fmt: skip
    call = [program, "-F", "none", "-p", str(port)]
    for key, value in options.items():
        # ssh_config(5): quotes for spaces, and a percent sign begins a token.
        call += ["-o", f'{key}="{str(value).replace("%", "%%")}"']
    return subprocess.call([*call, "root@127.0.0.1", *words])


@group.command()
@_named
@switch("--agent", help="The agent's log instead of the machine's console")
@switch("--follow", "-f", help="Go on as it grows")
def logs(name: str, agent: bool, follow: bool) -> None:
    """Print the machine's console, or its agent's log"""
    from cove.machine import lifecycle
    from cove.machine.follow import follow as contents

    paths = lifecycle.existing(name)
    path = paths.agent_log if agent else paths.console_log
    if not path.exists():
        raise CoveError(
            f"{path} is not there: the machine {name} has never run", f"start it with: cove machine start {name}"
        )
    if not follow:
        print(path.read_text("utf-8", "replace"), end="")
        return
    for data in contents(path):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


@group.group()
def config() -> None:
    """Show and change a machine's settings"""


@config.command("list")
@_chosen
def config_list(name: str) -> None:
    """Print all settings"""
    from cove.machine import lifecycle, settings

    kept = settings.load(lifecycle.existing(name).settings)
    for key in settings.SCHEMA.values():
        print(f"{key.name} = {key.show(getattr(kept, key.name))}")


@config.command("get")
@_chosen
@click.argument("key", metavar="KEY")
def config_get(name: str, key: str) -> None:
    """Print one setting"""
    from cove.machine import lifecycle, settings

    if key not in settings.SCHEMA:
        raise SettingsError(f"{key} is not a setting", f"the settings are {', '.join(settings.SCHEMA)}")
    kept = settings.load(lifecycle.existing(name).settings)
    print(settings.SCHEMA[key].show(getattr(kept, key)))


@config.command(
    "set",
    short_help="Change one setting",
    help="Change one setting\n\nA list is a:5000,b:5000 or, as `config get` prints it, '[\"a:5000\", \"b:5000\"]'; '' empties it.",
)
@_chosen
@click.argument("key", metavar="KEY")
@click.argument("value", metavar="VALUE")
def config_set(name: str, key: str, value: str) -> None:
    from cove.agent import disk
    from cove.machine import lifecycle, settings
    from cove.machine.locks import FileLock

    paths = lifecycle.existing(name)
    changed = settings.changed(paths.settings, key, value)
    wanted = settings.parse(changed, paths.settings)
    if key == "disk":
        disk.check_size(paths, wanted.disk)
    settings.write(paths.settings, changed)
    runs = not FileLock(paths.vm_lock).is_free()
    when = f"in effect after: cove machine restart {paths.name}" if runs else "in effect from its next start"
    print(f"machine {paths.name}: {key} = {settings.SCHEMA[key].show(getattr(wanted, key))}, {when}")
