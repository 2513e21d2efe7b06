"""`logs`: what a container has written."""

from __future__ import annotations

from cove.cli.client import quote
from cove.cli.command import Command, Context
from cove.cli.errors import CliError
from cove.cli.flags import Flag, Values, switch, text
from cove.cli.stream import demultiplex, write_all


def _time(values: Values, name: str) -> str | None:
    from cove.cli.timestamp import timestamp

    try:
        return timestamp(values[name]) if values[name] else None
    except CliError as error:
        raise CliError(f'invalid value for "{name}": {error}') from None


def logs(context: Context, values: Values) -> int:
    """`cove logs`: stdout to stdout, stderr to stderr."""
    path = f"/containers/{quote(values.args[0])}"
    info = context.engine.json("GET", f"{path}/json")
    query = {
        "stdout": True,
        "stderr": True,
        "since": _time(values, "since"),
        "until": _time(values, "until"),
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
