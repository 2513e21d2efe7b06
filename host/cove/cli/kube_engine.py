"""The engine as `cove.kube.play` asks for it, by the engine's client."""

from __future__ import annotations

import sys
import time
from typing import Any

from cove.cli.client import EngineClient, quote
from cove.cli.errors import CliError, DaemonError
from cove.kube.play.engine import Refused

_KINDS = ((1 << 31, "Directory"), (1 << 24, "Socket"), (1 << 21, "CharDevice"), (1 << 26, "BlockDevice"))
"""Bits of Go's os.FileMode, in the order to look for them: a character device is a device as well."""
TIMED_OUT = 124
_IRREGULAR = 1 << 27 | 1 << 25 | 1 << 19


class ClientEngine:
    """Raises `Refused` for the engine's own refusals, and `CliError` when there is no engine any more."""

    def __init__(self, client: EngineClient, *, quiet: bool = False) -> None:
        self._client = client
        self._quiet = quiet

    def call(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        body: Any = None,
        *,
        archive: bytes | None = None,
    ) -> Any:
        try:
            if archive is not None:
                return self._client.json(method, path, query, upload=[archive], content_type="application/x-tar")
            return self._client.json(method, path, query, body)
        except DaemonError as error:
            raise Refused(error.code, error.reason) from error

    def pull(self, image: str) -> None:
        from cove.cli.pull import pull_image

        try:
            pull_image(self._client, image, "", quiet=self._quiet or not sys.stderr.isatty(), out=sys.stderr)
        except CliError as error:
            raise Refused(error.code if isinstance(error, DaemonError) else 0, error.message) from error

    def kind(self, container: str, path: str) -> str:
        from cove.cli.cp.command import look

        found = look(self._client, container, path)
        if found is None or found.mode & _IRREGULAR:
            return ""
        return next((kind for bit, kind in _KINDS if found.mode & bit), "File")

    def execute(self, container: str, command: list[str], timeout_s: float) -> int:
        asked = {"Cmd": command, "AttachStdout": True, "AttachStderr": True}
        identifier = self.call("POST", f"/containers/{quote(container)}/exec", body=asked)["Id"]
        try:
            connection = self._client.hijack(f"/exec/{identifier}/start", body={"Detach": False, "Tty": False})
        except DaemonError:
            return 126  # the command cannot be started
        try:
            deadline = time.monotonic() + timeout_s
            while (left := deadline - time.monotonic()) > 0:
                connection.sock.settimeout(left)
                if not connection.sock.recv(1 << 16):
                    break
            else:
                return TIMED_OUT
        except TimeoutError:
            return TIMED_OUT  # the engine has no way to end it: it goes on
        finally:
            connection.close()
        code = self.call("GET", f"/exec/{identifier}/json")["ExitCode"]
        return 126 if code is None else int(code)

    def log(self, container: str, lines: int) -> str:
        from cove.cli.stream import frames

        query: dict[str, str | bool] = {"stdout": True, "stderr": True, "tail": str(lines)}
        try:
            response = self._client.request("GET", f"/containers/{quote(container)}/logs", query)
            return b"".join(part for _, part in frames(response)).decode(errors="replace")
        except CliError:
            return ""  # of a terminal there are no frames, and some drivers keep nothing

    def another(self) -> ClientEngine:
        return ClientEngine(EngineClient(self._client.path), quiet=self._quiet)
