"""``POST /build``: builds as they were before BuildKit, in the words of the builder of then."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from coved.api import build_query
from coved.api.http import Request, Response
from coved.api.images import read_body
from coved.api.progress import Report, streamed
from coved.build.errors import BuildError
from coved.build.files.folder import Folder
from coved.build.progress import Status, Vertex
from coved.build.request import Result
from coved.buildkit.classic import recorded
from coved.containers import modes
from coved.errors import EngineError, InvalidParameter
from coved.images import reference
from coved.registry.credentials import Credentials

if TYPE_CHECKING:
    from coved.engine import Engine

_PROCESS = re.compile(r'process "(?P<command>.*)" did not complete successfully: ', re.DOTALL)
_STAGE_NAME = re.compile('failed to parse stage name ".*": ', re.DOTALL)
_NO_DOCKERFILE = "failed to read dockerfile: open "


async def build(engine: Engine, request: Request) -> Response:
    wanted = build_query.read(request.query, request.version)
    # As at a container's creation; who is not there is missed by the first command.
    wanted = replace(wanted, network=modes.settled_network(wanted.network, engine.containers.get))
    quiet = request.query.bool("q")
    credentials = _credentials(request)
    await engine.images.ready()

    async def work(report: Report) -> None:
        builder = engine.builder
        with builder.incoming.folder() as folder:
            try:
                with recorded(engine.build_history, wanted, _Classic(report, quiet)) as recording:
                    if not wanted.context:
                        await builder.incoming.unpack(read_body(request), folder)
                    recording.result = await builder.build(wanted, Folder(folder, credentials), recording)
            except BuildError as error:
                raise _told(error) from error
            _tell_result(recording.result, report, quiet)

    return await streamed(work)


def _tell_result(result: Result, report: Report, quiet: bool) -> None:
    report({"aux": {"ID": result.image_id}})
    if quiet:
        report({"stream": f"{result.image_id}\n"})
        return
    report({"stream": f"Successfully built {result.image_id.removeprefix('sha256:')[:12]}\n"})
    for name in result.names:
        report({"stream": f"Successfully tagged {reference.parse(name).familiar}\n"})


class _Classic:
    """``Progress`` in the words of the builder of before BuildKit."""

    def __init__(self, report: Report, quiet: bool) -> None:
        self._report = report
        self._quiet = quiet

    def vertex(self, vertex: Vertex) -> None:
        pass

    def status(self, status: Status) -> None:
        pass

    def log(self, vertex: str, stream: int, data: bytes) -> asyncio.Future[None] | None:
        text = data.decode("utf-8", "replace")
        self._tell(text if stream == 1 else f"\x1b[91m{text}\x1b[0m")
        return self._report.room()

    def warning(self, vertex: str, warning: object) -> None:
        pass

    def step(self, number: int, total: int, source: str) -> None:
        self._tell(f"Step {number}/{total} : {source}\n")

    def note(self, text: str) -> None:
        self._tell(f"{text}\n")

    def _tell(self, text: str) -> None:
        if not self._quiet:
            self._report({"stream": text})


def _told(error: BuildError) -> EngineError:
    """An error in the classic builder's words."""
    message = str(error)
    if message.startswith(_NO_DOCKERFILE):
        name = message.removeprefix(_NO_DOCKERFILE).partition(":")[0]
        return InvalidParameter(f"Cannot locate specified Dockerfile: {name}")
    if match := _STAGE_NAME.match(message):
        return InvalidParameter(message[match.end() :])
    if error.exit_code is not None and (match := _PROCESS.match(message)):
        told = EngineError(f"The command '{match['command']}' returned a non-zero code: {error.exit_code}")
        told.exit_code = error.exit_code
        return told
    return error


def _credentials(request: Request) -> dict[str, tuple[str, str]]:
    """Of ``X-Registry-Config``: base64 of JSON, accounts by the names of registries. What cannot be read counts for none."""
    text = request.headers.get("x-registry-config", "")
    try:
        document = json.loads(base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_"))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    accounts = {}
    for host, account in document.items() if isinstance(document, dict) else ():
        if isinstance(account, dict):
            who = Credentials.of_json(account)
            accounts[str(host)] = (who.username, who.password) if who.username else ("", who.identity_token)
    return accounts
