"""`cove machine`: machines, their life and their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cove.cli import as_json as json_output
from cove.cli import config, machine_systems
from cove.cli.clicked import Group, Integer, switch
from cove.cli.command import agreed
from cove.cli.errors import CliError
from cove.cli.machine_rows import folder_rows, not_shared_rows, span
from cove.cli.which_machine import chosen, named
from cove.errors import CoveError, MachineNotFound
from cove.local import sockets
from cove.machine import remote
from cove.machine.paths import MachinePaths

SSH_LOST = 255
"""ssh's status when its connection failed (ssh(1))."""


RESET_HELP = """Give a machine a new disk: containers, images and volumes go

Its settings stay, and so do the VM image and what has been downloaded for it: the next start
takes no longer than any. It is stopped first when it runs."""


@click.group("machine", cls=Group, aliases={"ls": "list", "remove": "rm"})
def group() -> None:
    """Manage Cove's machines"""


@group.command()
@named
@click.option("--cpus", type=Integer(), help="Virtual processors")
@click.option("--memory", help="The most memory it can have, such as 4GiB")
@click.option("--disk", help="The most its disk can take, such as 100GiB")
@click.option("--ssh", metavar="USER@HOST", help="No VM: its engine runs on that computer with Linux")
@click.option(
    "--engine",
    type=click.Choice(["auto", "cove", "docker", "podman"]),
    help="With --ssh: Cove's own, or one that is there",
)
@click.option("--host-key", metavar="SHA256:...", help="With --ssh: the fingerprint of that computer's key")
@switch("--accept-host-key", help="With --ssh: take whatever key it shows now")
@click.option(
    "--share", metavar="FOLDER", multiple=True, help="With --ssh: a folder of this computer that its containers may use"
)
@json_output.option
def init(
    name: str, as_json: bool, ssh: str | None, engine: str | None, host_key: str | None, accept_host_key: bool,
    share: tuple[str, ...], **sizes: Any,
) -> None:  # fmt: skip
    """Make a machine; the first command that needs it starts it"""
    given = [f"--{key}" for key, value in sizes.items() if value is not None]
    if ssh is not None:
        if given:
            raise CliError(f"cove: {given[0]} is of a VM, and --ssh of another computer")
        _init_remote(name, as_json, ssh, engine or "auto", host_key or "", accept_host_key, share)
        return
    if engine is not None or host_key is not None or accept_host_key or share:
        raise CliError("cove: --engine, --host-key, --accept-host-key and --share go with --ssh")
    _init_vm(name, as_json, sizes)


def _init_remote(
    name: str, as_json: bool, ssh: str, engine: str, host_key: str, accepted: bool, share: tuple[str, ...]
) -> None:  # fmt: skip
    from cove.cli import remote_machines

    if (again := remote_machines.pinned_anew(name, ssh, host_key, accepted)) is not None:
        json_output.told(
            as_json, f"machine {name} has the key {again.shown()['host_key']} from now on", machine=name, **again.shown()
        )  # fmt: skip
        return
    paths, remote = remote_machines.made(name, ssh, engine, host_key, accepted, share, not as_json)
    what = "Cove's own engine" if remote.is_ours else f"the {remote.engine} that is there"
    json_output.told(
        as_json, f"made machine {name} on {remote.address}, with {what}; its settings are {paths.settings}",
        machine=name, state="stopped", settings=str(paths.settings), docker_socket=str(paths.docker_socket),
        host=str(remote.address), engine=remote.engine,
    )  # fmt: skip


def _init_vm(name: str, as_json: bool, sizes: dict[str, Any]) -> None:
    from cove.agent import changes
    from cove.machine import effective, lifecycle, policy, settings

    file = settings.render(settings.Settings())
    for key in ("cpus", "memory", "disk"):
        if sizes[key] is not None:
            effective.refuse_locked(key, policy.load())
            file = settings.with_value(file, key, str(sizes[key]), "the command line")
    wanted = settings.parse(file, "the command line")
    given = [key for key in sizes if sizes[key] is not None]
    changes.taken(MachinePaths(name), wanted, given)
    paths = lifecycle.init(name, wanted)
    config.warn(changes.taken(paths, wanted, given))
    json_output.told(
        as_json, f"made machine {name}; its settings are {paths.settings}",
        machine=name, state="stopped", settings=str(paths.settings), docker_socket=str(paths.docker_socket),
    )  # fmt: skip


@group.command()
@named
@json_output.option
def start(name: str, as_json: bool) -> None:
    """Start a machine, and make it when it is missing"""
    _start(name, as_json)


def _start(name: str, as_json: bool) -> None:
    from cove.cli import lost_ports

    socket = _run(name)
    lost = lost_ports.told(name)
    json_output.told(
        as_json, f"machine {name} is running; its docker socket is {sockets.shown(socket)}",
        machine=name, state="running", docker_socket=str(socket), lost_ports=[each.shown() for each in lost],
    )  # fmt: skip


def _run(name: str) -> Path:
    from cove.agent.launch import ensure_running
    from cove.progress import renderer

    with renderer(f"Cove is starting machine {name}") as report:
        return ensure_running(name, report)


@group.command()
@named
@switch("--force", "-f", help="Let go of another computer that cannot be reached, or does not stop")
@json_output.option
def stop(name: str, force: bool, as_json: bool) -> None:
    """Stop a machine: containers first, then the VM; nothing is lost"""
    if (paths := MachinePaths(name)).remote.exists():
        _stop_remote(paths, as_json, force=force)
        return
    if force:
        raise CliError("--force is for a machine whose engine runs on another computer")
    stop_in_order(name)
    json_output.told(as_json, f"machine {name} is stopped", machine=name, state="stopped")


def _stop_remote(paths: MachinePaths, as_json: bool, *, force: bool) -> None:
    name = paths.name
    try:
        _end(name, in_order=True, forced=force)
    except CoveError as error:
        way = f"to let go of it, whatever goes on there: cove machine stop --force {name}"
        raise type(error)(error.message, "\n".join(filter(None, (error.hint, way)))) from error
    if paths.remote_run.exists():
        json_output.told(
            as_json, f"machine {name} is let go of; what runs there goes on", machine=name, state=_status(name)["state"]
        )
    else:
        json_output.told(as_json, f"machine {name} is stopped", machine=name, state="stopped")


def stop_in_order(name: str) -> None:
    """Stop a machine, its VM and its agent; one that is suspended goes on first, so that what runs in it ends as it should.

    Raises `CoveError`.
    """
    _end(name, in_order=True, forced=False)


def stop_for_good(name: str, *, forced: bool) -> None:
    """End a machine whose data are to go, whatever its state; one that is suspended stays so. Raises `CoveError`.

    ``forced``: and soon.
    """
    _end(name, in_order=False, forced=forced)


def warn(words: str) -> None:
    """Of what may be left of a machine that goes."""
    import sys

    print(f"cove: warning: {words}", file=sys.stderr)


def _end(name: str, *, in_order: bool, forced: bool) -> None:
    from cove.agent import ending
    from cove.machine import lifecycle
    from cove.progress import renderer

    paths = lifecycle.existing(name)
    with renderer(f"Cove is stopping machine {name}") as report:
        ending.stop(paths, report, in_order=in_order, forced=forced)


@group.command()
@named
@switch("--force", "-f", help="Also when docker clients are connected, whose connections end")
@json_output.option
def suspend(name: str, force: bool, as_json: bool) -> None:
    """Write a machine's memory to the disk; the next command that needs it goes on from there"""
    from cove.agent import ending
    from cove.machine import lifecycle
    from cove.progress import renderer

    paths = lifecycle.existing(name)
    remote.refuse(paths, "suspend", f"to let go of it: cove machine stop {name}")
    if (state := _status(name)["state"]) in ("stopped", "suspended"):
        words = f"machine {name} is {state}" + (": there is nothing to suspend" if state == "stopped" else "")
        json_output.told(as_json, words, machine=name, state=state)
        return
    with renderer(f"Cove is suspending machine {name}") as report:
        ending.suspend(paths, report, anyway=force)
    json_output.told(as_json, f"machine {name} is suspended", machine=name, state="suspended")


@group.command()
@named
@json_output.option
def resume(name: str, as_json: bool) -> None:
    """Go on with a suspended machine, as any command does that needs it"""
    remote.refuse(MachinePaths(name), "resume", f"to connect to it: cove machine start {name}")
    state = _status(name)["state"]
    if state == "stopped":
        raise CoveError(f"the machine {name} is stopped, not suspended", f"start it with: cove machine start {name}")
    _start(name, as_json)


@group.command()
@named
@json_output.option
def restart(name: str, as_json: bool) -> None:
    """Stop a machine and start it again"""
    from cove.agent import ending
    from cove.machine import lifecycle

    paths = lifecycle.existing(name)
    if not paths.remote.exists():
        ending.check_restartable(paths)
    stop_in_order(name)
    _start(name, as_json)


@group.command()
@named
@json_output.option
def status(name: str, as_json: bool) -> None:
    """Tell what a machine does, what accelerates it and why, and what it takes"""
    told = _status(name)
    if as_json:
        json_output.show(told)
        return
    for key, shown in _rows(told):
        print(f"{key:<14} {shown}")


def _rows(value: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("machine", value["machine"]), ("state", _state(value))]
    if "agent_pid" in value and value["agent_pid"] is None and value["state"] != "suspended":
        rows.append(("agent", _no_agent(value["machine"])))
    if trouble := value.get("trouble"):
        rows += [("trouble", trouble), ("", f"make room, then: cove machine start {value['machine']}")]
    for number, one in enumerate(value.get("lost_ports", ())):
        of = f" of {one['container']}" if one["container"] else ""
        rows.append(("" if number else "lost ports", f"{one['port']}{of}: {one['reason'] or 'another program has it'}"))
    if value.get("lost_ports"):
        rows.append(("", "end what has it; each is published again as soon as it is free and this is asked again"))
    if crash := value.get("crash"):
        rows.append(("ended", f"{crash['how']}, without being told to"))
        rows += [("" if number else "last words", word) for number, word in enumerate(crash["words"])]
    if value.get("ended_with_computer"):
        rows.append(("ended", "with this computer, which was restarted or switched off while it ran"))
    if last := value.get("last_crash"):
        rows += _crash_rows(last, bool(crash))
    if "accelerator" in value:
        reason = f" ({value['accelerator_reason']})" if value["accelerator_reason"] else ""
        engine, api = (value.get(key, "?") for key in ("engine_version", "api_version"))
        started = f", started in {value['boot_seconds']:.1f} s" if value.get("boot_seconds") else ""
        used = value.get("host_memory")
        rows += [
            ("accelerator", f"{value['accelerator']}{reason}"),
            ("versions", f"engine {engine}, API {api}, {_hypervisor(value)}"),
            ("uptime", f"{span(value['uptime_seconds'])}{started}"),
            (
                "memory",
                # What is taken has QEMU's own share in it, and can be more than the machine itself may have.
                (f"{used >> 20} MiB of this computer's, QEMU included; " if used else "")
                + f"the machine has at most {value['memory'] >> 20} MiB",
            ),
        ]
    if "host" in value:
        from cove.cli import remote_machines

        rows += remote_machines.rows(value) + not_shared_rows(value)
        return [*rows, ("docker socket", sockets.shown(Path(value["docker_socket"])))]
    rows += machine_systems.rows(value)
    rows += folder_rows(value) + not_shared_rows(value)
    used = "none yet" if value["disk_used"] is None else f"{value['disk_used'] / 2**20:.0f} MiB"
    return [*rows, ("disk", used), ("docker socket", sockets.shown(Path(value["docker_socket"])))]


def _hypervisor(value: dict[str, Any]) -> str:
    """Hyper-V is a part of Windows, and has its version."""
    return f"{'Windows' if value['accelerator'] == 'hyperv' else 'QEMU'} {value['qemu_version']}"


def _crash_rows(last: dict[str, Any], shown: bool) -> list[tuple[str, str]]:
    """For a day. ``shown``: it is told already that the VM has ended, and how."""
    import time

    from cove.machine.crashes import FRESH_S

    if shown:
        return [("", f"{last['count']} times within 30 days")] if last["count"] > 1 else []
    if time.time() - last["at"] > FRESH_S:
        return []
    return [("last crash", last["text"]), ("", f"what was said: {last['see']}")]


def _no_agent(name: str) -> str:
    from cove.machine.locks import FileLock

    if FileLock(MachinePaths(name).lock).is_free():
        return "none; the next command that needs the machine starts one"
    return f"lives, and cannot be reached; what to do: cove diagnose {name}"


def _state(value: dict[str, Any]) -> str:
    """ "running", "running, idle for 2 min 3 s", "suspended (idle since 09:12), wakes by itself"."""
    import time

    state, idle = str(value["state"]), value.get("idle_since")
    if state == "running" and idle:
        return f"{state}, idle for {span(max(0.0, time.time() - idle))}"
    if state != "suspended":
        return state
    since, what = (idle, "idle since") if idle else (value.get("suspended_at"), "since")
    if since:
        today = time.localtime(since)[:3] == time.localtime()[:3]
        state += time.strftime(f" ({what} {'%H:%M' if today else '%Y-%m-%d %H:%M'})", time.localtime(since))
    # Without an agent nobody listens on the docker socket.
    return f"{state}, wakes by itself" if value.get("agent_pid") else f"{state}, wakes with the next cove command"


def _status(name: str) -> dict[str, Any]:
    from cove.support import status

    return status.of(name)


@group.command("list")
@json_output.option
def list_machines(as_json: bool) -> None:
    """List the machines"""
    from cove.machine import lifecycle

    machines = [_status(name) for name in lifecycle.names()]
    if as_json:
        json_output.show(machines)
        return
    print(f"{'NAME':<20}{'STATE':<12}{'ACCELERATOR':<14}DOCKER SOCKET")
    for one in machines:
        socket = sockets.shown(Path(one["docker_socket"]))
        print(
            f"{one['machine']:<20}{one['state']:<12}{'ssh' if 'host' in one else one.get('accelerator', '-'):<14}{socket}"
        )


@group.command()
@click.argument("wish", metavar="on|off|status", type=click.Choice(["on", "off", "status"]))
@named
@json_output.option
def autostart(name: str, wish: str, as_json: bool) -> None:
    """Start a machine whenever you log in, or do not"""
    from cove.machine import autostart, lifecycle

    lifecycle.existing(name)
    entry = autostart.here()
    if wish != "status":
        (entry.turn_on if wish == "on" else entry.turn_off)(name)
    on, current = entry.is_on(name), entry.is_current(name)
    said = f"machine {name} is{'' if on else ' not'} started when you log in"
    if on and not current:
        # It is not renewed unasked: another Cove may have made it, which is to start the machine still.
        said += f", by what another Cove has made, or one in another place; have this one do it: cove machine autostart on {name}"
    json_output.told(as_json, said, machine=name, autostart=on, current=current)


@group.command()
@named
@switch("--force", "-f", help="Do not ask; stop it when it runs")
@json_output.option
def rm(name: str, force: bool, as_json: bool) -> None:
    """Remove a machine with all its containers, images and volumes"""
    from cove.agent import removal
    from cove.machine import lifecycle

    try:
        lifecycle.existing(name)
    except MachineNotFound as error:
        raise MachineNotFound(error.message, "see those that exist with: cove machine list") from None
    if lifecycle.existing(name).remote.exists():
        _remove_remote(name, force, as_json)
        return
    runs = _status(name)["state"] not in ("stopped", "suspended")
    if runs and not force:
        raise CoveError(
            f"the machine {name} is running", f"stop it first: cove machine stop {name}; or remove it with --force"
        )
    # What is printed with --json is one document, so that nothing can be asked.
    if not force and (as_json or not agreed(f"Remove machine {name} with all its containers, images and volumes?")):
        raise CliError(
            f"the removal of machine {name} has been cancelled\n      to remove it without a question: cove machine rm --force {name}"
        )
    stop_for_good(name, forced=force)  # whatever its state: an agent may stay after its VM has died
    removal.take_away(lifecycle.existing(name), warn)
    lifecycle.remove(name)
    json_output.told(as_json, f"removed machine {name}", machine=name, state="removed")


def _remove_remote(name: str, force: bool, as_json: bool) -> None:
    from cove.agent import removal
    from cove.machine import lifecycle

    paths = lifecycle.existing(name)
    there = remote.load(paths) if not force else None
    if there is not None and there.is_ours and _status(name)["state"] != "stopped":
        raise CoveError(
            f"the machine {name} is running", f"stop it first: cove machine stop {name}; or remove it with --force"
        )
    what = (
        "? What runs there stays."
        if there is not None and not there.is_ours
        else " with all its containers, images and volumes?"
    )
    if not force and (as_json or not agreed(f"Remove machine {name}{what}")):
        raise CliError(
            f"the removal of machine {name} has been cancelled\n      to remove it without a question: cove machine rm --force {name}"
        )
    removal.of_remote(paths, warn, forced=force)
    lifecycle.remove(name)
    json_output.told(as_json, f"removed machine {name}", machine=name, state="removed")


@group.command(context_settings={"allow_interspersed_args": False})  # ssh free -m
@chosen
@click.argument("words", metavar="[COMMAND] [ARG...]", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, words: tuple[str, ...]) -> int:
    """Run a command in the machine itself, or a shell"""
    import subprocess
    import sys

    from cove.agent.client import ask, held
    from cove.agent.launch import ensure_running
    from cove.cli import ended
    from cove.cli.ssh_words import ssh_words
    from cove.progress import renderer

    paths = MachinePaths(name)
    if (there := remote.load(paths)) is not None:
        from cove.cli import remote_machines

        return subprocess.call([*remote_machines.ssh_words(paths, there), *words])
    ssh_words(paths, 0)  # without the program there is nothing to start a machine for
    with renderer(f"Cove is starting machine {name}") as report:
        ensure_running(name, report, engine=False)
    with held(paths):  # the engine knows nothing of this use of the machine
        status = subprocess.call([*ssh_words(paths, ask(paths, "status", 10)["ssh_port"]), *words])
    if status == SSH_LOST and ended.has_ended(name):
        print("\n      ".join(["cove: the connection has ended", *ended.told(name)]), file=sys.stderr)
    return status


@group.command()
@named
@switch("--agent", help="The agent's log instead of the machine's console")
@switch("--follow", "-f", help="Go on as it grows")
@click.option("--tail", "-n", type=Integer(), default=None, help="Only so many lines from the end")
@json_output.lines
def logs(name: str, agent: bool, follow: bool, tail: int | None, as_json: bool) -> None:
    """Print the machine's console, or its agent's log"""
    from cove.cli import machine_logs
    from cove.machine import lifecycle

    paths = lifecycle.existing(name)
    if not agent and (there := remote.load(paths)) is not None:
        from cove.cli import remote_machines

        remote_machines.show_log(paths, there, follow=follow, tail=tail)
        return
    path = paths.agent_log if agent else paths.console_log
    if not path.exists():
        raise CoveError(
            f"{path} is not there: the machine {name} has never run", f"start it with: cove machine start {name}"
        )
    if tail is not None and tail < 0:
        raise CliError(f"cove: --tail is a number of lines, not {tail}")
    machine_logs.show(path, agent=agent, as_json=as_json, follow=follow, tail=tail)


@group.command(
    short_help="Give a machine a new disk: containers, images and volumes go",
    help=RESET_HELP,
)
@named
@switch("--force", "-f", help="Do not ask")
@json_output.option
def reset(name: str, force: bool, as_json: bool) -> None:
    from cove.machine import lifecycle
    from cove.machine.sizes import approximate_size
    from cove.support import leftovers

    paths = lifecycle.existing(name)
    remote.refuse(paths, "reset", "remove it and make it anew: cove machine rm, cove machine init --ssh")
    gone = leftovers.of_reset(paths)
    question = (
        f"Reset machine {name}? All its containers, images and volumes are removed"
        f" ({leftovers.size_of(gone)}); its settings stay."
    )
    if not force and (as_json or not agreed(question)):
        raise CliError(
            f"the reset of machine {name} has been cancelled\n      to reset it without a question: cove machine reset --force {name}"
        )
    stop_for_good(name, forced=force)
    freed = leftovers.reset(paths, warn)
    json_output.told(
        as_json, f"machine {name} is as new; its next start makes an empty disk. {approximate_size(freed)} are free again",
        machine=name, state="reset", freed_bytes=freed,
    )  # fmt: skip


@group.command()
@named
@json_output.option
def upgrade(name: str, as_json: bool) -> None:
    """Take the newest VM image, also after a rollback; a machine that runs is restarted"""
    remote.refuse(MachinePaths(name), "upgrade", f"each start takes the newest there is: cove machine restart {name}")
    machine_systems.upgrade(name, _status(name), as_json, stop_in_order, _run)


@group.command()
@named
@json_output.option
def rollback(name: str, as_json: bool) -> None:
    """Go back to the VM image before, with all data, and stay there until an upgrade"""
    remote.refuse(MachinePaths(name), "rollback")
    machine_systems.rollback(name, as_json, stop_in_order, _run)


group.add_command(config.group)
