"""`hello`: the whole path once, from nothing to a page on localhost, and what to try next."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from cove.cli.client import EngineClient
from cove.cli.command import Command, Context
from cove.cli.errors import CliError, DaemonError
from cove.cli.flags import Values, switch, text
from cove.local import sockets
from cove.machine.paths import DEFAULT_MACHINE

NAME = "hello"
LABEL = "cove.hello"
"""Marks the container as this command's own: somebody else's of that name is left alone."""
IMAGE = "cove/starter"
TIMEOUT_S = 30


def _hello(context: Context, values: Values) -> int:
    port = str(values["publish"])
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise CliError(f"cove: {port!r} is not a port: give a number from 1 to 65535", status=125)
    engine = context.engine
    cove = _how_to_call(engine)
    docker_context = _context(engine)
    docker = f"docker --context {docker_context}" if docker_context else f"docker -H {sockets.url(engine.path)}"
    _container(engine, port, cove)
    url = f"http://localhost:{port}"
    page = _fetch(url)
    if values["json"]:
        from cove.cli import as_json

        as_json.show(
            {"container": NAME, "image": IMAGE, "url": url, "page": _words(page), "docker_context": docker_context}
        )
        return 0
    print(f"\n{url} answers from a container in the VM:\n")
    for line in _words(page):
        print(f"    {line}")
    print(
        f"""
Try next:
  open {url} in a browser
  {cove} run --rm -it busybox sh      a shell in a container
  {cove} ps                           what runs;  {cove} logs {NAME}
  {docker} ps          docker's own client works too
Stop:
  {cove} rm -f {NAME}                  this container"""
    )
    if engine.machine is not None:
        stop = f"{cove.partition(' ')[0]} machine stop{_machine_argument(engine)}"
        print(f"  {stop}                 the machine; the next cove command starts it again")
    return 0


def _context(engine: EngineClient) -> str | None:
    """Docker's context of this very engine: that of the name may be of a machine in another COVE_HOME, or not be there."""
    from cove.machine import docker_context

    machine = engine.machine or DEFAULT_MACHINE
    return docker_context.name_for(machine) if docker_context.leads_to(machine, engine.path) else None


def _how_to_call(engine: EngineClient) -> str:
    """What the user has to type for this program and this machine."""
    import shutil

    found, own = shutil.which("cove"), Path(sys.argv[0])
    program = "cove"
    if own.name == "cove" and (found is None or not own.samefile(found)):
        program = str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)
    return f"{program} -m {engine.machine}" if _machine_argument(engine) else program


def _machine_argument(engine: EngineClient) -> str:
    return "" if engine.machine in (None, DEFAULT_MACHINE) else f" {engine.machine}"


def _container(engine: EngineClient, port: str, cove: str) -> None:
    """Have the container running, a new one unless it is there and publishes the port."""
    bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port}]}
    present = _present(engine, cove)
    if present is None:
        _new(engine, port, bindings, cove)
    elif present["HostConfig"]["PortBindings"] != bindings:
        _instead_of(engine, present["Id"], port, bindings, cove)
    elif not present["State"]["Running"]:
        _start(engine, cove)


def _present(engine: EngineClient, cove: str) -> dict[str, Any] | None:
    try:
        present = engine.json("GET", f"/containers/{NAME}/json")
    except DaemonError as error:
        if error.code != 404:
            raise
        return None
    if LABEL not in (present["Config"]["Labels"] or {}):
        raise CliError(
            f"cove: there is a container {NAME} already, which is not this command's\n"
            f"      remove it with: {cove} rm -f {NAME}, or give it another name: {cove} rename {NAME} NAME"
        )
    return dict(present)


def _instead_of(engine: EngineClient, earlier: str, port: str, bindings: dict[str, Any], cove: str) -> None:
    """The one on another port goes when the new one runs, and stays when that cannot be."""
    engine.json("POST", f"/containers/{earlier}/rename", {"name": f"{NAME}-{earlier[:12]}"})
    try:
        _new(engine, port, bindings, cove)
    except BaseException:
        engine.json("POST", f"/containers/{earlier}/rename", {"name": NAME})
        raise
    engine.json("DELETE", f"/containers/{earlier}", {"force": True})
    print(f"it takes the place of the one on another port: $ cove rm -f {earlier[:12]}", file=sys.stderr)


def _new(engine: EngineClient, port: str, bindings: dict[str, Any], cove: str) -> None:
    """What cannot be started is not left behind."""
    print(f"$ cove run -d --name {NAME} -p {port}:80 {IMAGE}", file=sys.stderr)
    body = {
        "Image": IMAGE, "Labels": {LABEL: ""}, "ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PortBindings": bindings},
    }  # fmt: skip
    try:
        engine.json("POST", "/containers/create", {"name": NAME}, body)
    except DaemonError as error:
        if error.code != 404:
            raise
        from cove.cli.pull import pull_image

        # Somebody has removed the image; the engine has it put by.
        pull_image(engine, IMAGE, "", quiet=False, out=sys.stderr)
        engine.json("POST", "/containers/create", {"name": NAME}, body)
    try:
        _start(engine, cove)
    except BaseException:
        engine.json("DELETE", f"/containers/{NAME}", {"force": True})
        raise


def _start(engine: EngineClient, cove: str) -> None:
    try:
        engine.json("POST", f"/containers/{NAME}/start")
    except DaemonError as error:
        if not any(words in str(error) for words in ("port is already allocated", "address already in use")):
            raise
        raise CliError(f"{error}\n      choose another port: {cove} hello -p 8081") from None


def _fetch(url: str) -> str:
    from urllib.request import ProxyHandler, build_opener

    try:
        with build_opener(ProxyHandler({})).open(
            url, timeout=TIMEOUT_S
        ) as response:  # a proxy's localhost is another one
            return str(response.read(1 << 16).decode())
    except OSError as error:
        raise CliError(f"cove: {url} does not answer: {error}\n      see why with: cove logs {NAME}") from error


def _words(page: str) -> list[str]:
    """What a person would read on the page."""
    import html
    import re

    body = re.sub(r"(?s)<style>.*?</style>|<title>.*?</title>", "", page)
    lines = (html.unescape(re.sub(r"<[^>]+>", "", line)).strip() for line in body.splitlines())
    return [line for line in lines if line]


COMMANDS = {
    "hello": Command(
        _hello,
        "Run a page in a container, fetch it from localhost, and show what to try next",
        flags=(switch("json", "", "Print JSON"), text("publish", "p", "Port on localhost", default="8080")),
        most=0,
    )
}
