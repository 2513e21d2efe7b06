"""/exec of the Engine API, and the creation of execs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coved.api.containers import detach_keys, terminal_size
from coved.api.http import Request, Response, json_response
from coved.api.router import Router
from coved.containers.config_schema import EXEC_START, read
from coved.containers.execs import Exec
from coved.errors import EngineError, InvalidParameter
from coved.runtime.spec import Attachment

if TYPE_CHECKING:
    from coved.engine import Engine

_LIMIT = 8 * 1024 * 1024
"""Of an exec's description in JSON: execve(2) takes no more than 6 MiB of arguments and environment."""


def routes(router: Router) -> None:
    router.add("POST", "/containers/{id*}/exec", create)
    router.add("POST", "/exec/{id}/start", start)
    router.add("POST", "/exec/{id}/resize", resize)
    router.add("GET", "/exec/{id}/json", inspect)


async def create(engine: Engine, request: Request) -> Response:
    body = await request.json(_LIMIT)
    reference = request.match["id"]
    asked = next((value for key, value in body.items() if key.lower() == "detachkeys"), None)
    try:
        keys = detach_keys(asked) if asked and isinstance(asked, str) else b""
    except InvalidParameter:
        raise EngineError(f"Invalid escape keys ({asked}) provided") from None  # 500 in dockerd, too
    made = engine.containers.execs.create(engine.containers.get(reference), body, reference=reference, detach_keys=keys)
    return json_response({"Id": made.id}, 201)


async def start(engine: Engine, request: Request) -> Response | None:
    execs = engine.containers.execs
    options = read(EXEC_START, await request.json(), "ExecStartConfig")
    one = execs.get_active(request.match["id"])
    execs.must_be_startable(one)
    console = options["ConsoleSize"] if options["Tty"] and request.version >= (1, 42) else None
    if options["Detach"]:
        await execs.start(one, [], console)
        return Response(200)
    config = one.config
    # As with dockerd, frames depend on what the start says, whatever the process has been given.
    raw = bool(options["Tty"])
    keys = one.detach_keys or detach_keys("")
    hijacked = await request.hijack(raw_stream=raw)
    attachment = Attachment(
        hijacked.fd,
        stdin=config["AttachStdin"],
        stdout=config["AttachStdout"],
        stderr=config["AttachStderr"],
        raw=raw,
        detach_keys=keys if config["Tty"] else b"",  # in a pipe, those bytes are data
        pending=hijacked.pending,
    )
    with _Duplicate(hijacked.fd) as client:
        try:
            await execs.start(one, [attachment], console)
        except EngineError as error:
            # HTTP is over on this connection: what went wrong is told where the output would have been.
            from coved.api.taken import taken

            await taken(client.fileno())
            client.say(f"{error}\r\n", framed=not raw)
    return None


async def resize(engine: Engine, request: Request) -> Response:
    size = terminal_size(request)
    await engine.containers.execs.resize(engine.containers.execs.get_active(request.match["id"]), *size)
    return Response(200)


async def inspect(engine: Engine, request: Request) -> Response:
    return json_response(_shown(engine.containers.execs.get_current(request.match["id"])))


def _shown(one: Exec) -> dict[str, Any]:
    import base64

    command = one.config["Cmd"] or [""]
    return {
        "ID": one.id,
        "Running": one.running,
        "ExitCode": one.exit_code,
        "ProcessConfig": {
            "tty": one.config["Tty"],
            "entrypoint": command[0],
            "arguments": command[1:],
            "privileged": one.config["Privileged"],
            **({"user": one.config["User"]} if one.config["User"] else {}),
        },
        "OpenStdin": one.config["AttachStdin"],
        "OpenStderr": one.config["AttachStderr"],
        "OpenStdout": one.config["AttachStdout"],
        "CanRemove": False,
        "ContainerID": one.container.id,
        "DetachKeys": base64.b64encode(one.detach_keys).decode(),
        "Pid": one.pid,
    }


class _Duplicate:
    """A second descriptor of a hijacked connection, for the words about a start that failed; nothing follows them."""

    def __init__(self, fd: int) -> None:
        import os
        import socket

        self._socket = socket.socket(fileno=os.dup(fd))

    def __enter__(self) -> _Duplicate:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def say(self, text: str, *, framed: bool) -> None:
        import socket
        import struct

        data = text.encode()
        try:
            self._socket.send((struct.pack(">BxxxL", 1, len(data)) if framed else b"") + data)
            # Input that nobody has read would make the end of the connection a reset (unix(7)), and that an error.
            self._socket.shutdown(socket.SHUT_RDWR)
            while self._socket.recv(1 << 16):
                pass
        except OSError:
            return  # nobody listens any more
