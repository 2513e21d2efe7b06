"""`run`, `create`, `start` and `attach`: the verbs that may hold a container's terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from cove.cli import terminal
from cove.cli.client import Hijacked, quote
from cove.cli.command import Command, Context, for_each
from cove.cli.docker_config import DockerConfig
from cove.cli.errors import CliError, ConnectionFailed, DaemonError, Detached, HelpfulError, start_status
from cove.cli.flags import Values, switch, text
from cove.cli.run_flags import CREATE_FLAGS, RUN_FLAGS
from cove.cli.run_options import create_body
from cove.cli.stream import DEFAULT_DETACH_KEYS, Attached, follow_size, parse_detach_keys
from cove.cli.trust import check_trust

PULL_POLICIES = ("always", "missing", "never")


def _check_terminal(*, stdin: bool, tty: bool) -> None:
    if stdin and tty and not terminal.is_terminal(0):
        raise CliError("the input device is not a TTY")


def check_image(image: str) -> None:
    """Raise `CliError` for an image that no name can be; ids pass, for an engine knows them."""
    if image.isascii() and image.islower() and ":" not in image:
        return
    from cove.cli.reference import check_reference

    check_reference(image)


def _platform(specifier: str) -> str | None:
    """`--platform` as an engine knows it. Raises `CliError`."""
    if not specifier:
        return None
    from cove.cli.platforms import parse

    try:
        platform = parse(specifier)
    except ValueError as error:
        raise CliError(f"error parsing specified platform: {error}") from None
    return "/".join(platform[part] for part in ("os", "architecture", "variant") if part in platform)


def create(context: Context, values: Values) -> int:
    """`cove create`"""
    body = create_body(values)
    print(_create_container(context, values, body))
    return 0


def _create_container(context: Context, values: Values, body: dict[str, Any]) -> str:
    """Create the container, pulling its image when it is missing; returns the id."""
    check_trust(values)
    if proxies := DockerConfig.load().proxies(values["env"]):
        body["Env"] = [*(body["Env"] or ()), *proxies]
    image, policy = body["Image"], values["pull"]
    if "~" in image:
        from cove.cli.earlier import earlier

        image = body["Image"] = earlier(context.engine, image)
    if policy not in PULL_POLICIES:
        raise HelpfulError(f'invalid pull option: \'{policy}\': must be one of "always", "missing" or "never"')
    cidfile = Path(values["cidfile"]) if values["cidfile"] else None
    if cidfile is not None and cidfile.exists():
        raise CliError(
            f"container ID file found, make sure the other container isn't running or delete {cidfile}", status=125
        )
    check_image(image)
    query = {"name": values["name"] or None, "platform": _platform(values["platform"])}

    def pull() -> None:
        from cove.cli.pull import pull_image

        pull_image(context.engine, image, values["platform"], quiet=values["quiet"], out=sys.stderr)

    if policy == "always":
        pull()
    try:
        answer = context.engine.json("POST", "/containers/create", query, body)
    except DaemonError as error:
        if error.code != 404 or policy != "missing" or "image" not in error.reason.lower():
            raise
        from cove.cli.images import familiar_tagged

        if not values["quiet"]:
            print(f"Unable to find image '{familiar_tagged(image)}' locally", file=sys.stderr)
        pull()
        answer = context.engine.json("POST", "/containers/create", query, body)
    for warning in answer.get("Warnings") or ():
        print(f"WARNING: {warning}", file=sys.stderr)
    container_id = str(answer["Id"])
    if cidfile is not None:
        cidfile.write_text(container_id)
    return container_id


def run(context: Context, values: Values) -> int:
    """`cove run`: create, attach and wait before start, so that nothing of a short life is missed."""
    detach = values["detach"]
    if detach and values["attach"]:
        raise CliError("conflicting options: cannot specify both --attach and --detach")
    body = create_body(values)
    if detach:
        body |= {"AttachStdin": False, "AttachStdout": False, "AttachStderr": False, "StdinOnce": False}
    else:
        _check_terminal(stdin=body["AttachStdin"], tty=body["Tty"])
    if body["Tty"] and (now := terminal.size(1)):
        body["HostConfig"]["ConsoleSize"] = list(now)
    keys = parse_detach_keys(values["detach-keys"] or DEFAULT_DETACH_KEYS)
    try:
        container_id = _create_container(context, values, body)
    except CliError as error:
        # `create` tells these as they are; `run` with the pointer to its help, and always as 125.
        raise HelpfulError(error.message) from error
    if detach:
        try:
            context.engine.request("POST", f"/containers/{container_id}/start").read()
        except DaemonError as error:
            raise HelpfulError(error.message, start_status(error.reason)) from error
        except ConnectionFailed as error:
            raise _left_behind(error, values["name"] or container_id[:12]) from error
        print(container_id)
        return 0
    streams = {name: body[f"Attach{name.title()}"] for name in ("stdin", "stdout", "stderr")}
    if not any(streams.values()):
        print(container_id)
    condition = "removed" if values["rm"] else "next-exit"
    try:
        return _hold(
            context, container_id, streams, tty=body["Tty"], keys=keys, condition=condition,
            proxy=values["sig-proxy"], start=True,
        )  # fmt: skip
    except Detached:
        return 0
    except DaemonError as error:
        raise HelpfulError(error.message, start_status(error.reason)) from error
    except ConnectionFailed as error:
        raise _left_behind(error, values["name"] or container_id[:12]) from error


def _left_behind(error: ConnectionFailed, container: str, status: int = 125) -> CliError:
    """What is told, and docker's status, when the engine is lost while it holds a container: that ends with no client."""
    return CliError(
        f"error waiting for container: {error.message}\n"
        f"      the container {container} may run on: cove ps -a shows it, cove attach {container} holds it again",
        status,
    )


def _hold(
    context: Context,
    container_id: str,
    streams: dict[str, bool],
    *,
    tty: bool,
    keys: bytes,
    condition: str,
    proxy: bool,
    start: bool,
    enduring: bool = True,
) -> int:
    """Attach to a container, optionally start it, move its bytes until it ends; its exit status.

    Signals go to it with `proxy`; when not `enduring`, and without, Ctrl-C ends the command at once. Raises `Detached`,
    `ForcedExit`.
    """
    engine = context.engine
    path = f"/containers/{quote(container_id)}"
    connection = engine.hijack(f"{path}/attach", {"stream": True, **{name: on for name, on in streams.items() if on}})
    # The answer's head comes at once, its body when the container ends. Before the start, or a short life is missed.
    waiting = engine.send("POST", f"{path}/wait", {"condition": condition})
    if waiting.status >= 400:
        connection.close()
        raise engine.error(waiting)
    with ExitStack() as scope:
        scope.callback(waiting.close)
        scope.callback(connection.close)

        def forward(name: str) -> None:
            _try(lambda: context_kill(context, container_id, name))

        def resize(rows: int, columns: int) -> None:
            _side_request(context, "POST", f"{path}/resize", {"h": rows, "w": columns})

        report = follow_size(resize, 1) if tty and terminal.is_terminal(1) else None
        raw = tty and streams["stdin"] and terminal.is_terminal(0)
        scope.enter_context(terminal.signals_to(forward if proxy else None, report, enduring=enduring))
        if start:
            engine.request("POST", f"{path}/start").read()
        if raw:
            scope.enter_context(terminal.raw_mode(0))
        if report is not None:
            if not start and (now := terminal.size(1)):
                # A size that changes makes a shell draw its prompt, which whoever attaches again would have to ask for.
                with suppress(CliError):
                    resize(now[0] + 1, now[1] + 1)
            report()
        Attached(
            connection,
            terminal=tty,
            stdin=0 if streams["stdin"] else None,
            stdout=1 if streams["stdout"] else None,
            stderr=2 if streams["stderr"] else None,
            detach_keys=keys if streams["stdin"] else b"",
        ).run()
        answer = waiting.read()
        if not answer:
            raise ConnectionFailed("the engine closed the connection before it told how the container ended")
        return _exit_status(answer)


def _exit_status(answer: bytes) -> int:
    import json

    result = json.loads(answer)
    if (result.get("Error") or {}).get("Message"):
        raise CliError(f"Error waiting for container: {result['Error']['Message']}", 125)
    return int(result["StatusCode"])


def _side_request(context: Context, method: str, path: str, query: dict[str, Any]) -> None:
    """A request from another thread: on a client of its own, for a connection carries one exchange at a time."""
    from cove.cli.client import EngineClient

    EngineClient(context.engine.path).request(method, path, query).close()


def context_kill(context: Context, container_id: str, name: str) -> None:
    _side_request(context, "POST", f"/containers/{quote(container_id)}/kill", {"signal": name})


def _try(action: Callable[[], None]) -> None:
    try:
        action()
    except CliError:
        return  # the process is not there yet, or has just gone: the signal has nobody to reach


def start(context: Context, values: Values) -> int:
    """`cove start`: with -a or -i one container, held; otherwise several, each named when it runs."""
    names = values.args
    if not values["attach"] and not values["interactive"]:
        return _start_several(context, names)
    if len(names) > 1:
        raise CliError("you cannot start and attach multiple containers at once")
    info = context.engine.json("GET", f"/containers/{quote(names[0])}/json")
    config = info["Config"]
    stdin = bool(values["interactive"] and config["OpenStdin"])
    _check_terminal(stdin=stdin, tty=config["Tty"])
    streams = {"stdin": stdin, "stdout": True, "stderr": True}
    keys = parse_detach_keys(values["detach-keys"] or DEFAULT_DETACH_KEYS)
    condition = "removed" if info["HostConfig"].get("AutoRemove") else "next-exit"
    try:
        return _hold(
            context, info["Id"], streams, tty=config["Tty"], keys=keys, condition=condition,
            proxy=not config["Tty"], start=True, enduring=False,
        )  # fmt: skip
    except Detached:
        return 0
    except ConnectionFailed as error:
        raise _left_behind(error, names[0]) from error


def _start_several(context: Context, names: list[str]) -> int:
    failed: list[str] = []

    def one(name: str) -> str:
        try:
            context.engine.json("POST", f"/containers/{quote(name)}/start")
        except DaemonError:
            failed.append(name)
            raise
        return name

    try:
        return for_each(names, one)
    except CliError as error:
        raise CliError(f"{error.message}\nError: failed to start containers: {', '.join(failed)}") from error


def attach(context: Context, values: Values) -> int:
    """`cove attach`"""
    info = context.engine.json("GET", f"/containers/{quote(values.args[0])}/json")
    state, config = info["State"], info["Config"]
    if not state["Running"]:
        raise CliError("You cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise CliError("You cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise CliError("You cannot attach to a restarting container, wait until it is running")
    stdin = bool(not values["no-stdin"] and config["OpenStdin"])
    _check_terminal(stdin=stdin, tty=config["Tty"])
    keys = parse_detach_keys(values["detach-keys"] or DEFAULT_DETACH_KEYS)
    streams = {"stdin": stdin, "stdout": True, "stderr": True}
    try:
        return _hold(
            context, info["Id"], streams, tty=config["Tty"], keys=keys, condition="not-running",
            proxy=values["sig-proxy"] and not config["Tty"], start=False,
        )  # fmt: skip
    except ConnectionFailed as error:
        raise _left_behind(error, values.args[0], 1) from error


def held_exec(context: Context, exec_id: str, connection: Hijacked, *, tty: bool, stdin: bool, keys: bytes) -> None:
    """Hold an exec's streams until it ends. Raises `Detached`."""

    def resize(rows: int, columns: int) -> None:
        _side_request(context, "POST", f"/exec/{exec_id}/resize", {"h": rows, "w": columns})

    report = follow_size(resize, 1) if tty and terminal.is_terminal(1) else None
    with ExitStack() as scope:
        scope.enter_context(terminal.signals_to(None, report))
        if tty and stdin and terminal.is_terminal(0):
            scope.enter_context(terminal.raw_mode(0))
        if report is not None:
            report()
        Attached(connection, terminal=tty, stdin=0 if stdin else None, stdout=1, stderr=2, detach_keys=keys).run()


_DETACH_KEYS = text("detach-keys", "", "Override the key sequence for detaching a container")

COMMANDS = {
    "run": Command(
        run, "Create and run a new container from an image", "IMAGE [COMMAND] [ARG...]", RUN_FLAGS,
        least=1, failure=125, interspersed=False,
    ),
    "create": Command(
        create, "Create a new container", "IMAGE [COMMAND] [ARG...]", CREATE_FLAGS, least=1, interspersed=False
    ),
    "start": Command(
        start, "Start one or more stopped containers", "CONTAINER [CONTAINER...]",
        (
            switch("attach", "a", "Attach STDOUT/STDERR and forward signals"),
            _DETACH_KEYS,
            switch("interactive", "i", "Attach container's STDIN"),
        ),
        least=1,
    ),
    "attach": Command(
        attach, "Attach local standard input, output, and error streams to a running container", "CONTAINER",
        (
            _DETACH_KEYS,
            switch("no-stdin", "", "Do not attach STDIN"),
            switch("sig-proxy", "", "Proxy all received signals to the process", True),
        ),
        least=1, most=1,
    ),
}  # fmt: skip
