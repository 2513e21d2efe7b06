"""`hello`: the whole path once, from nothing to a page on localhost, and what to try next."""

from __future__ import annotations

import sys

from cove.cli.client import EngineClient
from cove.cli.command import Command, Context
from cove.cli.errors import CliError, DaemonError
from cove.cli.flags import Values, text

NAME = "hello"
IMAGE = "cove/starter"
TIMEOUT_S = 30


def _hello(context: Context, values: Values) -> int:
    port = str(values["publish"])
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise CliError(f"cove: {port!r} is not a port: give a number from 1 to 65535", status=125)
    engine = context.engine
    _container(engine, port)
    url = f"http://localhost:{port}"
    page = _fetch(url)
    print(f"\n{url} answers from a container in the VM:\n")
    for line in _words(page):
        print(f"    {line}")
    print(
        f"""
Try next:
  open {url} in a browser
  cove run --rm -it busybox sh      a shell in a container
  cove ps                           what runs;  cove logs {NAME}
  docker --context cove ps          docker's own client works too
Stop:
  cove rm -f {NAME}                  this container
  cove machine stop                 the machine; the next command starts it again"""
    )
    return 0


def _container(engine: EngineClient, port: str) -> None:
    """Have the container running, a new one unless it is there and publishes the port."""
    bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port}]}
    try:
        present = engine.json("GET", f"/containers/{NAME}/json")
        if present["HostConfig"]["PortBindings"] != bindings:
            engine.json("DELETE", f"/containers/{NAME}", {"force": True})
            present = None
    except DaemonError as error:
        if error.code != 404:
            raise
        present = None
    if present is None:
        print(f"$ cove run -d --name {NAME} -p {port}:80 {IMAGE}", file=sys.stderr)
        body = {"Image": IMAGE, "ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PortBindings": bindings}}
        engine.json("POST", "/containers/create", {"name": NAME}, body)
    if present is None or not present["State"]["Running"]:
        engine.json("POST", f"/containers/{NAME}/start")


def _fetch(url: str) -> str:
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=TIMEOUT_S) as response:
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
        flags=(text("publish", "p", "Port on localhost", default="8080"),),
        most=0,
    )
}
