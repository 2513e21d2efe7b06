"""`logs`: what a container has written."""

from __future__ import annotations

import re
import time

from cove.cli.client import quote
from cove.cli.command import Command, Context
from cove.cli.errors import CliError
from cove.cli.flags import Flag, Values, switch, text
from cove.cli.stream import demultiplex, write_all


def timestamp(text: str, now: float | None = None) -> str:
    """`10m`, an RFC 3339 time, a local date or a unix time, as the API's seconds.nanoseconds. Raises `CliError`."""
    if re.fullmatch(r"\d+(\.\d{1,9})?", text):
        return text
    from cove.cli.values import duration

    try:
        length = duration(text)
    except ValueError:
        length = None
    if length is not None:
        return str(int((time.time() if now is None else now) - length / 10**9))  # whole seconds, as docker sends them
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CliError(f'failed to parse value as time or duration: "{text}"') from None
    return f"{int(moment.timestamp())}.{moment.microsecond * 1000:09d}"


def logs(context: Context, values: Values) -> int:
    """`cove logs`: stdout to stdout, stderr to stderr."""
    path = f"/containers/{quote(values.args[0])}"
    info = context.engine.json("GET", f"{path}/json")
    query = {
        "stdout": True,
        "stderr": True,
        "since": timestamp(values["since"]) if values["since"] else None,
        "until": timestamp(values["until"]) if values["until"] else None,
        "timestamps": values["timestamps"],
        "follow": values["follow"],
        "tail": values["tail"],
        "details": values["details"],
    }
    response = context.engine.request("GET", f"{path}/logs", query)
    if info["Config"]["Tty"]:
        for chunk in response:
            write_all(1, chunk)
    else:
        demultiplex(response, {1: 1, 2: 2})
    return 0


LOG_FLAGS: tuple[Flag, ...] = (
    switch("details", "", "Show extra details provided to logs"),
    switch("follow", "f", "Follow log output"),
    text(
        "since", "", 'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)'
    ),
    text("tail", "n", "Number of lines to show from the end of the logs", "all"),
    switch("timestamps", "t", "Show timestamps"),
    text(
        "until",
        "",
        'Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
    ),
)
COMMANDS = {"logs": Command(logs, "Fetch the logs of a container", "CONTAINER", LOG_FLAGS, least=1, most=1)}
