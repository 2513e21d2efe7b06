"""The short verbs on containers: stop, restart, kill, rm, wait, pause, unpause, rename, port, top."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

from cove.cli import format as fmt
from cove.cli.client import EngineClient, quote
from cove.cli.command import Command, Context, for_each, for_each_at_once
from cove.cli.errors import CliError, DaemonError
from cove.cli.flags import Flag, Values, parse_int, parse_uint16, switch, text
from cove.cli.ports import join_host_port


def _stop_query(values: Values) -> dict[str, Any]:
    if values.changed("time"):
        print("Flag --time has been deprecated, use --timeout instead")  # on stdout, as docker
        if values.changed("timeout"):
            raise CliError("conflicting options: cannot specify both --timeout and --time")
    return {
        "signal": values["signal"] or None,
        "t": values["timeout"] if values["timeout"] is not None else values["time"],
    }


def _post(verb: str, query: dict[str, Any] | None = None) -> Callable[[EngineClient, str], object]:
    def one(engine: EngineClient, name: str) -> object:
        return engine.json("POST", f"/containers/{quote(name)}/{verb}", query or {})

    return one


def stop(context: Context, values: Values) -> int:
    """`cove stop`"""
    return for_each_at_once(context, values.args, _post("stop", _stop_query(values)))


def restart(context: Context, values: Values) -> int:
    """`cove restart`: one after the other, as docker does."""
    query = _stop_query(values)

    def one(name: str) -> str:
        context.engine.json("POST", f"/containers/{quote(name)}/restart", query)
        return name

    return for_each(values.args, one)


def kill(context: Context, values: Values) -> int:
    """`cove kill`"""
    return for_each_at_once(context, values.args, _post("kill", {"signal": values["signal"] or None}))


def rm(context: Context, values: Values) -> int:
    """`cove rm`: with --force a container that does not exist is told but is no failure."""
    query = {"force": values["force"], "link": values["link"], "v": values["volumes"]}
    failed = False
    failures = []
    for given in values.args:
        name = given.strip("/")
        if not name:
            failures.append("Container name cannot be empty")
            failed = True
            continue
        try:
            context.engine.json("DELETE", f"/containers/{quote(name)}", query)
        except DaemonError as error:
            failures.append(error.message)
            failed = failed or not (values["force"] and error.code == 404)
        else:
            print(given, flush=True)
    if failures and failed:
        raise CliError("\n".join(failures))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 0


def wait(context: Context, values: Values) -> int:
    """`cove wait`: prints exit statuses."""

    def one(name: str) -> str:
        return str(context.engine.json("POST", f"/containers/{quote(name)}/wait")["StatusCode"])

    return for_each(values.args, one)


def pause(context: Context, values: Values) -> int:
    """`cove pause`"""
    return for_each_at_once(context, values.args, _post("pause"))


def unpause(context: Context, values: Values) -> int:
    """`cove unpause`"""
    return for_each_at_once(context, values.args, _post("unpause"))


def rename(context: Context, values: Values) -> int:
    """`cove rename`"""
    old, new = (name.strip() for name in values.args)
    if not old or not new:
        raise CliError("Error: Neither old nor new names may be empty")
    try:
        context.engine.json("POST", f"/containers/{quote(old)}/rename", {"name": new})
    except DaemonError as error:
        raise CliError(f"{error.message}\nError: failed to rename container named {old}") from error
    return 0


def port(context: Context, values: Values) -> int:
    """`cove port`: all mappings, or those of one container port."""
    name, *wanted = values.args
    info = context.engine.json("GET", f"/containers/{quote(name)}/json")
    ports = info["NetworkSettings"]["Ports"] or {}
    if wanted and wanted[0]:
        number, _, protocol = wanted[0].partition("/")
        try:
            parse_uint16(number)
        except ValueError as error:
            raise CliError(f"Error: invalid port ({number}): {error}") from error
        bindings = ports.get(f"{number}/{protocol or 'tcp'}")
        if not bindings:
            raise CliError(f"Error: No public port '{wanted[0]}' published for {name}")
        lines = [join_host_port(binding["HostIp"], binding["HostPort"]) for binding in bindings]
    else:
        lines = [
            f"{key} -> {join_host_port(binding['HostIp'], binding['HostPort'])}"
            for key, bindings in ports.items()
            for binding in bindings or ()
        ]
    for line in sorted(lines, key=_natural):
        print(line)
    return 0


def _natural(text: str) -> list[tuple[str, int]]:
    """Sorts numbers by what they are worth, all else by its characters."""
    return [("0", int(part)) if part.isdigit() else (part, 0) for part in re.findall(r"\d+|\D", text)]


def top(context: Context, values: Values) -> int:
    """`cove top`: ps on the container's processes."""
    name, *arguments = values.args
    query = {"ps_args": " ".join(arguments) or None}
    answer = context.engine.json("GET", f"/containers/{quote(name)}/top", query)
    sys.stdout.write(fmt.table([answer["Titles"], *(answer["Processes"] or ())], minimum=20))
    return 0


_STOP_FLAGS = (
    text("signal", "s", "Signal to send to the container"),
    Flag("timeout", "t", kind="int", parse=parse_int, help="Seconds to wait before killing the container"),
    Flag("time", kind="int", parse=parse_int, help="Seconds to wait before killing the container", hidden=True),
)
_NAMES = "CONTAINER [CONTAINER...]"

COMMANDS = {
    "stop": Command(stop, "Stop one or more running containers", _NAMES, _STOP_FLAGS, least=1),
    "restart": Command(restart, "Restart one or more containers", _NAMES, _STOP_FLAGS, least=1),
    "kill": Command(
        kill,
        "Kill one or more running containers",
        _NAMES,
        (text("signal", "s", "Signal to send to the container"),),
        least=1,
    ),
    "rm": Command(
        rm,
        "Remove one or more containers",
        _NAMES,
        (
            switch("force", "f", "Force the removal of a running container (uses SIGKILL)"),
            switch("link", "l", "Remove the specified link"),
            switch("volumes", "v", "Remove anonymous volumes associated with the container"),
        ),
        least=1,
    ),
    "wait": Command(wait, "Block until one or more containers stop, then print their exit codes", _NAMES, least=1),
    "pause": Command(pause, "Pause all processes within one or more containers", _NAMES, least=1),
    "unpause": Command(unpause, "Unpause all processes within one or more containers", _NAMES, least=1),
    "rename": Command(rename, "Rename a container", "CONTAINER NEW_NAME", least=2, most=2),
    "port": Command(
        port,
        "List port mappings or a specific mapping for the container",
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        least=1,
        most=2,
    ),
    "top": Command(
        top, "Display the running processes of a container", "CONTAINER [ps OPTIONS]", least=1, interspersed=False
    ),
}
