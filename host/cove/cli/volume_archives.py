"""`volume export` and `volume import`: all of a volume's files as one archive. Docker has no such commands."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cove.cli.client import quote
from cove.cli.command import Command, Context
from cove.cli.errors import CliError, DaemonError, os_error_text
from cove.cli.flags import Values, switch, text

COMPRESSIONS = ("none", "gzip", "zstd")
PATIENCE_S = 0.5
"""How long a command is silent: most are done by then."""
INTERVAL_S = 0.1
_BY_NAME = ((".gz", "gzip"), (".tgz", "gzip"), (".zst", "zstd"), (".tzst", "zstd"))


def export(context: Context, values: Values) -> int:
    """`cove volume export`: into a file beside which a partial one never takes its place, or to stdout."""
    from cove.cli import terminal
    from cove.cli.output import check_file, write_file, write_stdout

    name, output = _checked(values.args[0]), values["output"]
    if not output and terminal.is_terminal(1):
        raise CliError("cowardly refusing to export to a terminal. Use the -o flag or redirect")
    if values["json"] and not output:
        raise CliError("--json needs the -o flag: without it the archive goes to STDOUT")
    compression = values["compression"] or _by_name(output)
    if compression not in COMPRESSIONS:
        raise CliError(f"unknown compression: {compression}: it must be one of {', '.join(COMPRESSIONS)}")
    if output:
        check_file(output, "failed to export volume")
    try:
        response = context.engine.request("GET", f"/cove/volumes/{quote(name)}/archive", {"compression": compression})
    except DaemonError as error:
        raise _explained(error) from None
    with _told("export", name, None, quiet=values["quiet"]) as counted:
        if output:
            write_file(output, counted(response))
        else:
            write_stdout(counted(response))
    if values["json"]:
        from cove.cli import as_json

        size = Path(output).stat().st_size
        as_json.show({"volume": name, "file": output, "compression": compression, "bytes": size})
    return 0


def import_(context: Context, values: Values) -> int:
    """`cove volume import`: what comes in is a volume when it is there to the last file, and nothing before that."""
    from cove.cli import terminal

    name, *rest = values.args
    _checked(name)
    path = "" if rest in ([], ["-"]) else rest[0]
    if not path and terminal.is_terminal(0):
        raise CliError("requested import from stdin, but stdin is a terminal: name a file, or redirect one")
    with _source(path) as stream, _told("import", name, _size(stream), quiet=values["quiet"]) as counted:
        try:
            response = context.engine.request(
                "PUT",
                f"/cove/volumes/{quote(name)}/archive",
                {"replace": values["force"]},
                upload=counted(_pieces(stream, path or "/dev/stdin")),
                content_type="application/x-tar",
            )
        except DaemonError as error:
            raise _explained(error) from None
        response.read()
    if values["json"]:
        from cove.cli import as_json

        as_json.show({"volume": name})
    else:
        print(name)
    return 0


def _checked(name: str) -> str:
    """What could not be part of a path. Raises `CliError`."""
    if not name or "/" in name:
        allowed = '"[a-zA-Z0-9][a-zA-Z0-9_.-]"'
        raise CliError(f'"{name}" includes invalid characters for a local volume name, only {allowed} are allowed')
    return name


def _explained(error: DaemonError) -> CliError:
    if error.code == 404 and error.reason == "page not found":
        return CliError("this engine cannot export and import volumes: it is not Cove's, or it is an older one")
    return error


def _by_name(path: str) -> str:
    return next((kind for end, kind in _BY_NAME if path.lower().endswith(end)), "none")


@contextmanager
def _source(path: str) -> Iterator[IO[bytes]]:
    """The file at `path`, or stdin for none, which stays open."""
    if not path:
        yield sys.stdin.buffer
        return
    try:
        stream = Path(path).open("rb")  # noqa: SIM115 -- closed below: what is raised within is not of this file
    except OSError as error:
        raise CliError(os_error_text(error)) from error
    with stream:
        yield stream


def _pieces(stream: IO[bytes], name: str) -> Iterator[bytes]:
    try:
        while data := stream.read(1 << 18):
            yield data
    except OSError as error:
        raise CliError(f"read {name}: {(error.strerror or str(error)).lower()}") from error


def _size(stream: IO[bytes]) -> int | None:
    """Of what is read, in bytes, where that is known."""
    try:
        found = os.fstat(stream.fileno())
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


@contextmanager
def _told(
    phase: str, name: str, total: int | None, *, quiet: bool
) -> Iterator[Callable[[Iterable[bytes]], Iterator[bytes]]]:
    """A way to pass pieces on that shows on a terminal how far they are, when there is something to wait for."""
    from cove.cli import terminal

    if quiet or not terminal.is_terminal(2):
        yield iter
        return
    from cove.progress import Event, renderer

    with renderer() as report:

        def counted(pieces: Iterable[bytes]) -> Iterator[bytes]:
            done, next_s = 0, time.monotonic() + PATIENCE_S
            for piece in pieces:
                yield piece
                done += len(piece)
                if (now := time.monotonic()) >= next_s:
                    report(Event(phase, name, done, total))
                    next_s = now + INTERVAL_S

        yield counted


COMMANDS = {
    "volume export": Command(
        export,
        "Export all files of a volume as a tar archive (streamed to STDOUT by default)",
        "VOLUME",
        (
            text("compression", "", "Compress the archive (none, gzip, zstd); by default as the file's name says"),
            switch("json", "", "Print JSON"),
            text("output", "o", "Write to a file, instead of STDOUT"),
            switch("quiet", "q", "Suppress the progress output"),
        ),
        least=1,
        most=1,
    ),
    "volume import": Command(
        import_,
        "Import the files of a tar archive into a volume, which is created if there is none",
        "VOLUME [FILE|-]",
        (
            switch("force", "f", "Replace what is in the volume"),
            switch("json", "", "Print JSON"),
            switch("quiet", "q", "Suppress the progress output"),
        ),
        least=1,
        most=2,
    ),
}
