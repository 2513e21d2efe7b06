"""`diff` and `export`: what a container changed in its file system, and the whole of it."""

from __future__ import annotations

from cove.cli.client import quote
from cove.cli.command import Command, Context
from cove.cli.errors import CliError
from cove.cli.flags import Values, text

KINDS = ("C", "A", "D")
"""Changed, added, deleted, by the API's numbers."""


def diff(context: Context, values: Values) -> int:
    """`cove diff`"""
    container = values.args[0]
    if not container:
        raise CliError("Container name cannot be empty")
    changes = context.engine.json("GET", f"/containers/{quote(_trimmed(container))}/changes") or ()
    print("".join(f"{KINDS[change['Kind']]} {change['Path']}\n" for change in changes), end="")
    return 0


def export(context: Context, values: Values) -> int:
    """`cove export`: into a file beside which a partial one never takes its place, or to stdout."""
    from cove.cli import terminal
    from cove.cli.output import check_file, write_file
    from cove.cli.stream import write_all

    output = values["output"]
    if not output and terminal.is_terminal(1):
        raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if output:
        check_file(output, "failed to export container")
    response = context.engine.request("GET", f"/containers/{quote(_trimmed(values.args[0]))}/export")
    if output:
        write_file(output, response)
        return 0
    for chunk in response:
        write_all(1, chunk)
    return 0


def _trimmed(container: str) -> str:
    name = container.strip()
    if not name:
        raise CliError("invalid container name or ID: value is empty")
    return name


COMMANDS = {
    "diff": Command(
        diff,
        "Inspect changes to files or directories on a container's filesystem",
        "CONTAINER",
        least=1,
        most=1,
    ),
    "export": Command(
        export,
        "Export a container's filesystem as a tar archive",
        "CONTAINER",
        (text("output", "o", "Write to a file, instead of STDOUT"),),
        least=1,
        most=1,
    ),
}
