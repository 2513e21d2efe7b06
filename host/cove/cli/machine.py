"""`cove machine`: machines, their life and their settings."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from cove.cli.command import Command, Context, confirm
from cove.cli.errors import CliError
from cove.cli.flags import Flag, Values, integer, switch, text
from cove.errors import CoveError, SettingsError
from cove.machine.paths import DEFAULT_MACHINE

STOP_TIMEOUT_S = 120.0


def _chosen(context: Context, values: Values) -> str:
    """The machine of a command with arguments of its own: named with -m."""
    return values["machine"] or context.machine or os.environ.get("COVE_MACHINE") or DEFAULT_MACHINE


def _named(context: Context, values: Values) -> str:
    """The machine of a command about one machine and nothing else: named as an argument, or with -m as everywhere."""
    given = values.args[0] if values.args else ""
    if given and values["machine"] not in ("", given):
        raise CliError(f"cove: two machines are named, {given} and {values['machine']}")
    return given or _chosen(context, values)


def init(context: Context, values: Values) -> int:
    """`cove machine init`"""
    from cove.machine import lifecycle, settings

    name = _named(context, values)
    file = settings.render(settings.Settings())
    for key in ("cpus", "memory", "disk"):
        if values.changed(key):
            file = settings.with_value(file, key, str(values[key]), "the command line")
    paths = lifecycle.init(name, settings.parse(file, "the command line"))
    print(f"made machine {name}; its settings are {paths.settings}")
    return 0


def start(context: Context, values: Values) -> int:
    """`cove machine start`"""
    _start(_named(context, values))
    return 0


def _start(name: str) -> None:
    from cove.agent.launch import ensure_running
    from cove.progress import renderer

    with renderer(f"Cove is starting machine {name}") as report:
        socket = ensure_running(name, report)
    print(f"machine {name} is running; its docker socket is {socket}")


def stop(context: Context, values: Values) -> int:
    """`cove machine stop`"""
    name = _named(context, values)
    _stop(name)
    print(f"machine {name} is stopped")
    return 0


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


def restart(context: Context, values: Values) -> int:
    """`cove machine restart`"""
    name = _named(context, values)
    _stop(name)
    _start(name)
    return 0


def status(context: Context, values: Values) -> int:
    """`cove machine status`"""
    told = _status(_named(context, values))
    if values["json"]:
        print(json.dumps(told, indent=1))
        return 0
    for key, shown in _rows(told):
        print(f"{key:<14} {shown}")
    return 0


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
                (f"{used >> 20} MiB of this computer's, " if used else "") + f"at most {value['memory'] >> 20} MiB",
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


def list_machines(context: Context, values: Values) -> int:
    """`cove machine list`"""
    from cove.machine import lifecycle

    machines = [_status(name) for name in lifecycle.names()]
    if values["json"]:
        print(json.dumps(machines, indent=1))
        return 0
    print(f"{'NAME':<20}{'STATE':<12}{'ACCELERATOR':<14}DOCKER SOCKET")
    for one in machines:
        print(f"{one['machine']:<20}{one['state']:<12}{one.get('accelerator', '-'):<14}{one['docker_socket']}")
    return 0


def rm(context: Context, values: Values) -> int:
    """`cove machine rm`"""
    from cove.machine import lifecycle

    name, force = _named(context, values), values["force"]
    runs = _status(name)["state"] != "stopped"
    if runs and not force:
        raise CoveError(
            f"the machine {name} is running", f"stop it first: cove machine stop {name}; or remove it with --force"
        )
    if not force and not confirm(f"Remove machine {name} with all its containers, images and volumes?"):
        raise CliError(f"the removal of machine {name} has been cancelled")
    _stop(name)  # whatever its state: an agent may stay after its VM has died
    lifecycle.remove(name)
    print(f"removed machine {name}")
    return 0


def ssh(context: Context, values: Values) -> int:
    """`cove machine ssh`: ends as the command in the machine did."""
    import shutil
    import subprocess

    from cove.agent.client import ask
    from cove.agent.launch import ensure_running
    from cove.machine.paths import MachinePaths
    from cove.progress import renderer

    program = shutil.which("ssh")
    if program is None:
        raise CoveError("there is no ssh program on this computer", "install OpenSSH's client")
    name = _chosen(context, values)
    with renderer(f"Cove is starting machine {name}") as report:
        ensure_running(name, report)
    paths = MachinePaths(name)
    port = ask(paths, "status", 10)["ssh_port"]
    options = {
        "IdentityFile": paths.ssh_key, "IdentitiesOnly": "yes", "UserKnownHostsFile": paths.known_hosts,
        "HostKeyAlias": f"cove-{name}", "StrictHostKeyChecking": "yes", "LogLevel": "ERROR",
    }  # fmt: skip
    words = [program, "-F", "none", "-p", str(port)]
    for key, value in options.items():
        # ssh_config(5): quotes for spaces, and a percent sign begins a token.
        words += ["-o", f'{key}="{str(value).replace("%", "%%")}"']
    return subprocess.call([*words, "root@127.0.0.1", *values.args])


def logs(context: Context, values: Values) -> int:
    """`cove machine logs`"""
    from cove.machine import lifecycle
    from cove.machine.follow import follow as contents

    name = _named(context, values)
    paths = lifecycle.existing(name)
    path = paths.agent_log if values["agent"] else paths.console_log
    if not path.exists():
        raise CoveError(
            f"{path} is not there: the machine {name} has never run", f"start it with: cove machine start {name}"
        )
    if not values["follow"]:
        print(path.read_text("utf-8", "replace"), end="")
        return 0
    for data in contents(path):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    return 0


def config_list(context: Context, values: Values) -> int:
    """`cove machine config list`"""
    from cove.machine import lifecycle, settings

    kept = settings.load(lifecycle.existing(_chosen(context, values)).settings)
    for key in settings.SCHEMA.values():
        print(f"{key.name} = {key.show(getattr(kept, key.name))}")
    return 0


def config_get(context: Context, values: Values) -> int:
    """`cove machine config get`"""
    from cove.machine import lifecycle, settings

    (key,) = values.args
    if key not in settings.SCHEMA:
        raise SettingsError(f"{key} is not a setting", f"the settings are {', '.join(settings.SCHEMA)}")
    kept = settings.load(lifecycle.existing(_chosen(context, values)).settings)
    print(settings.SCHEMA[key].show(getattr(kept, key)))
    return 0


def config_set(context: Context, values: Values) -> int:
    """`cove machine config set`"""
    from cove.agent import disk
    from cove.machine import lifecycle, settings
    from cove.machine.locks import FileLock

    key, value = values.args
    paths = lifecycle.existing(_chosen(context, values))
    changed = settings.changed(paths.settings, key, value)
    wanted = settings.parse(changed, paths.settings)
    if key == "disk":
        disk.check_size(paths, wanted.disk)
    settings.write(paths.settings, changed)
    runs = not FileLock(paths.vm_lock).is_free()
    when = f"in effect after: cove machine restart {paths.name}" if runs else "in effect from its next start"
    print(f"machine {paths.name}: {key} = {settings.SCHEMA[key].show(getattr(wanted, key))}, {when}")
    return 0


_MACHINE = text("machine", "m", "The machine (COVE_MACHINE)")
_JSON = switch("json", "", "Print JSON")


def _of_one(run: Callable[[Context, Values], int], short: str, flags: Sequence[Flag] = ()) -> Command:
    return Command(run, short, "[NAME]", (*flags, _MACHINE), most=1)


COMMANDS = {
    "init": _of_one(
        init, "Make a machine; the first command that needs it starts it",
        (
            integer("cpus", "", "Virtual processors"),
            text("memory", "", "The most memory it can have, such as 4GiB"),
            text("disk", "", "The most its disk can take, such as 100GiB"),
        ),
    ),
    "start": _of_one(start, "Start a machine, and make it when it is missing"),
    "stop": _of_one(stop, "Stop a machine: containers first, then the VM; nothing is lost"),
    "restart": _of_one(restart, "Stop a machine and start it again"),
    "status": _of_one(status, "Tell what a machine does, what accelerates it and why, and what it takes", (_JSON,)),
    "list": Command(list_machines, "List the machines", flags=(_JSON,), most=0),
    "rm": _of_one(
        rm, "Remove a machine with all its containers, images and volumes",
        (switch("force", "f", "Do not ask; stop it when it runs"),),
    ),
    "ssh": Command(
        ssh, "Run a command in the machine itself, or a shell", "[COMMAND] [ARG...]", (_MACHINE,), interspersed=False
    ),
    "logs": _of_one(
        logs, "Print the machine's console, or its agent's log",
        (
            switch("agent", "", "The agent's log instead of the machine's console"),
            switch("follow", "f", "Go on as it grows"),
        ),
    ),
    "config list": Command(config_list, "Print all settings", "", (_MACHINE,), most=0),
    "config get": Command(config_get, "Print one setting", "KEY", (_MACHINE,), least=1, most=1),
    "config set": Command(config_set, "Change one setting", "KEY VALUE", (_MACHINE,), least=2, most=2),
}  # fmt: skip
