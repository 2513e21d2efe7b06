"""`pull`, and the progress that the engine reports while images move (Docker's jsonmessage stream)."""

from __future__ import annotations

import sys
from typing import IO, Any

from cove.cli import terminal
from cove.cli.client import EngineClient, Response
from cove.cli.command import Command, Context
from cove.cli.errors import CliError
from cove.cli.flags import Values, switch, text
from cove.cli.images import split_reference
from cove.cli.reference import check_reference


def show_progress(response: Response, out: IO[str]) -> None:
    """Print the messages: on a terminal each layer keeps its line, elsewhere only what is said once. Raises
    `CliError`.
    """
    fancy = terminal.is_terminal(out.fileno())
    lines: dict[str, int] = {}
    for message in response.json_lines():
        if error := message.get("errorDetail") or ({"message": message["error"]} if message.get("error") else None):
            raise CliError(str(error.get("message", "")))
        if "stream" in message:
            out.write(message["stream"])
            out.flush()
            continue
        if "status" not in message:
            continue
        identity, progress = message.get("id", ""), message.get("progressDetail") or {}
        if not fancy:
            if not progress.get("current") and not message.get("progress"):
                out.write((f"{identity}: " if identity else "") + message["status"] + "\n")
                out.flush()
            continue
        _draw(out, lines, identity, message["status"], progress)


def _draw(out: IO[str], lines: dict[str, int], identity: str, status: str, progress: dict[str, Any]) -> None:
    line = (f"{identity}: " if identity else "") + status
    if progress.get("current"):
        line += " " + bar(progress, (terminal.size(out.fileno()) or (24, 80))[1])
    if not identity:
        lines.clear()  # a line of its own ends the block that was being redrawn
        out.write(line + "\n")
    elif identity in lines:
        up = len(lines) - lines[identity]
        out.write(f"\x1b[{up}A\r\x1b[2K{line}\x1b[{up}B\r")
    else:
        lines[identity] = len(lines)
        out.write(f"\r\x1b[2K{line}\n")
    out.flush()


def bar(progress: dict[str, Any], columns: int) -> str:
    """`[====>     ]  1.2MB/3.4MB`; without a total only what has come so far."""
    from cove.cli.format import human_size

    current, total = progress["current"], progress.get("total") or 0
    if total <= 0:
        return f"{human_size(current):>8}"
    text = f"{human_size(current):>8}/{human_size(total)}"
    if columns <= 110:
        return text
    filled = min(int(current * 50 / total), 50)
    return "[" + "=" * filled + (">" if filled < 50 else "") + " " * (49 - filled) + "] " + text


def pull_image(engine: EngineClient, reference: str, platform: str, *, quiet: bool, out: IO[str]) -> None:
    """Pull `reference`, telling its progress on `out`. Raises `DaemonError`, `CliError`."""
    check_reference(reference)
    name, label = split_reference(reference)
    query = {"fromImage": name, "tag": label or "latest", "platform": platform or None}
    response = engine.request("POST", "/images/create", query)
    if not quiet:
        show_progress(response, out)
        return
    for message in response.json_lines():
        if message.get("error"):
            raise CliError(str(message["error"]))


def pull(context: Context, values: Values) -> int:
    """`cove pull`"""
    reference = values.args[0]
    check_reference(reference)
    name, label = split_reference(reference)
    if values["all-tags"] and label:
        raise CliError("tag can't be used with --all-tags/-a")
    if not label and not values["all-tags"]:
        label = "latest"
        if not values["quiet"]:
            print("Using default tag: latest", flush=True)
    if values["all-tags"]:
        check_reference(name)
        response = context.engine.request("POST", "/images/create", {"fromImage": name})
        show_progress(response, sys.stdout)
    else:
        separator = "@" if ":" in label else ":"
        full = f"{name}{separator}{label}"
        pull_image(context.engine, full, values["platform"], quiet=values["quiet"], out=sys.stdout)
        name = full
    first = name.partition("/")[0]
    if "/" not in name:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    print(name)
    return 0


COMMANDS = {
    "pull": Command(
        pull,
        "Download an image from a registry",
        "NAME[:TAG|@DIGEST]",
        (
            switch("all-tags", "a", "Download all tagged images in the repository"),
            switch("disable-content-trust", "", "Skip image verification", True),
            text("platform", "", "Set platform if server is multi-platform capable"),
            switch("quiet", "q", "Suppress verbose output"),
        ),
        least=1,
        most=1,
    )
}
