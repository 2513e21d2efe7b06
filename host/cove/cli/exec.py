"""`exec`: another process in a running container."""

from __future__ import annotations

from cove.cli import terminal
from cove.cli.client import quote
from cove.cli.command import Command, Context
from cove.cli.errors import CliError, ConnectionFailed, DaemonError, os_error_text, start_status
from cove.cli.flags import Values, several, switch, text
from cove.cli.run import held_exec
from cove.cli.run_options import environment
from cove.cli.stream import DEFAULT_DETACH_KEYS, parse_detach_keys
from cove.cli.values import environment as environment_value

LOST = 255
"""Docker's status of an exec whose engine cannot be asked how it ended (its -1)."""


def execute(context: Context, values: Values) -> int:
    """`cove exec`: the process's own exit status, 126 or 127 when it could not be started."""
    container, *command = values.args
    detach, tty = values["detach"], values["tty"]
    stdin = bool(values["interactive"] and not detach)
    try:
        variables = environment(values["env"], values["env-file"])
    except (OSError, ValueError) as error:
        raise CliError(os_error_text(error) if isinstance(error, OSError) else str(error)) from error
    try:
        keys = parse_detach_keys(values["detach-keys"] or DEFAULT_DETACH_KEYS)
    except CliError:
        keys = b""  # the engine refuses them, as in docker
    # Asked first, as docker does: an unknown container is told before a missing terminal.
    engine = context.engine
    engine.json("GET", f"/containers/{quote(container)}/json")
    if stdin and tty and not terminal.is_terminal(0):
        raise CliError("the input device is not a TTY")
    size = terminal.size(1) if tty and not detach else None
    body = {
        "User": values["user"],
        "Privileged": values["privileged"],
        "Tty": tty,
        "ConsoleSize": list(size) if size else None,
        "AttachStdin": stdin,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "Detach": detach,
        "DetachKeys": values["detach-keys"],
        "Env": variables or None,
        "WorkingDir": values["workdir"],
        "Cmd": command,
    }
    exec_id = engine.json("POST", f"/containers/{quote(container)}/exec", body=body)["Id"]
    if detach:
        engine.request("POST", f"/exec/{exec_id}/start", body={"Detach": True, "Tty": tty}).read()
        return 0
    start = {"Detach": False, "Tty": tty, "ConsoleSize": body["ConsoleSize"]}
    try:
        connection = engine.hijack(f"/exec/{exec_id}/start", body=start)
    except DaemonError as error:
        raise CliError(error.message, max(start_status(error.reason), 126)) from error
    held_exec(context, exec_id, connection, tty=tty, stdin=stdin, keys=keys)
    from cove.cli import ended  # nothing of it is needed before the command has ended

    if ended.has_ended(engine.machine):  # to ask it how the command ended would start it again
        look = f"see how its machine is with: cove machine status {engine.machine}"
        raise ConnectionFailed(f"the connection to the command has ended\n      {look}", LOST)
    unknown = (
        f"how the command ended is not known; it may run on in the container {container}: cove top {container} shows it"
    )
    try:
        code = engine.json("GET", f"/exec/{exec_id}/json")["ExitCode"]
    except (ConnectionFailed, DaemonError) as error:  # the next engine knows nothing of an earlier one's
        raise CliError(f"{error.message}\n      {unknown}", LOST) from error
    if code is None:  # for docker's client that is a success
        raise CliError(f"the connection to the command has ended, and the command has not\n      {unknown}", LOST)
    return int(code)


COMMANDS = {
    "exec": Command(
        execute,
        "Execute a command in a running container",
        "CONTAINER COMMAND [ARG...]",
        (
            switch("detach", "d", "Detached mode: run command in the background"),
            text("detach-keys", "", "Override the key sequence for detaching a container"),
            several("env", "e", "Set environment variables", environment_value),
            several("env-file", "", "Read in a file of environment variables"),
            switch("interactive", "i", "Keep STDIN open even if not attached"),
            switch("privileged", "", "Give extended privileges to the command"),
            switch("tty", "t", "Allocate a pseudo-TTY"),
            text("user", "u", 'Username or UID (format: "<name|uid>[:<group|gid>]")'),
            text("workdir", "w", "Working directory inside the container"),
        ),
        least=2,
        interspersed=False,
    )
}
