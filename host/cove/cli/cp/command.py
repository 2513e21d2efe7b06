"""`cp`: files from a container and into one, as `docker cp` does it: the same endings, links and refusals."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from cove.cli import terminal
from cove.cli.client import EngineClient, Response, quote
from cove.cli.command import Command, Context
from cove.cli.cp.paths import (
    CONTAINER,
    LOCAL,
    Place,
    absolute,
    arrange,
    check_output,
    local_destination,
    local_source,
)
from cove.cli.cp.paths import renamed as rename_entry
from cove.cli.errors import CliError, DaemonError
from cove.cli.flags import Values, switch

STAT_HEADER = "x-docker-container-path-stat"
DIRECTORY, LINK, DEVICE, IRREGULAR = 1 << 31, 1 << 27, 1 << 26, 1 << 19
"""Bits of Go's os.FileMode."""
UPDATE_S = 0.075
CHUNK = 1 << 18


class Stat(NamedTuple):
    """What the engine says of a path in a container."""

    mode: int
    link_target: str


def split_argument(argument: str) -> tuple[str, str]:
    """(container, path); no container for a local path, which a colon in it does not change after `/` or `.`."""
    if LOCAL.is_absolute(argument):
        return "", argument
    container, colon, path = argument.partition(":")
    if not colon or container.startswith("."):
        return "", argument
    return container, path


def archive_path(container: str) -> str:
    """The API's path of the container's files. Raises `CliError` for a name of blanks alone."""
    name = container.strip()
    if not name:
        raise CliError("invalid container name or ID: value is empty")
    return f"/containers/{quote(name)}/archive"


def decode_stat(response: Response) -> Stat:
    """What the answer's header says (API: HEAD and GET /containers/{id}/archive). Raises `CliError`."""
    import base64
    import json

    try:
        value = json.loads(base64.b64decode(response.headers.get(STAT_HEADER, ""), validate=True))
        return Stat(int(value["mode"]), str(value.get("linkTarget") or ""))
    except (ValueError, KeyError, TypeError) as error:
        raise CliError(
            f"unable to get resource stat from response: unable to decode container path stat header: {error}"
        ) from error


def look(engine: EngineClient, container: str, path: str) -> Stat | None:
    """The engine's word on a path; None when there is none, or no such container: the copy itself tells why."""
    try:
        return decode_stat(engine.head(archive_path(container), {"path": path}))
    except DaemonError:
        return None


def link_target(path: str, target: str) -> str:
    """Where the link `path` in a container leads, seen from its root."""
    return target if CONTAINER.is_absolute(target) else CONTAINER.join(CONTAINER.split(path)[0], target)


class Progress:
    """How much has been copied: a line on stderr that keeps itself up to date when that is a terminal, and what is
    said at the end. Silent with `quiet`.
    """

    def __init__(self, header: str, *, quiet: bool) -> None:
        self.header = header
        self.quiet = quiet
        self.total = 0
        self._drawn = not quiet and terminal.is_terminal(2)
        self._shown = 0
        self._at = 0.0

    def __enter__(self) -> Progress:
        if self._drawn:
            self._write(f"\x1b[sPreparing to copy...\x1b[?25l\x1b[u\x1b[2K{self.header}0B")
            self._at = time.monotonic()
        return self

    def count(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.total += len(chunk)
            if self._drawn and self.total != self._shown and (now := time.monotonic()) >= self._at + UPDATE_S:
                self._write(f"\x1b[{len(self.header) + 1}G\x1b[0K{_size(self.total)}")
                self._shown, self._at = self.total, now
            yield chunk

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            self._write("\x1b[?25h\x1b[u\x1b[2K")

    def done(self, destination: str) -> None:
        """Say what came of it, which docker does whatever came of it."""
        if not self.quiet:
            print(f"Successfully copied {_size(self.total)} to {destination}", file=sys.stderr, flush=True)

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _size(count: int) -> str:
    from cove.cli.format import human_size

    return human_size(count, 3)


def cp(context: Context, values: Values) -> int:
    """`cove cp`"""
    source, destination = values.args
    if not source:
        raise CliError("source can not be empty")
    if not destination:
        raise CliError("destination can not be empty")
    quiet = values["quiet"] if values.changed("quiet") else not terminal.is_terminal(1)
    from_container, source_path = split_argument(source)
    to_container, destination_path = split_argument(destination)
    if from_container and to_container:
        raise CliError("copying between containers is not supported")
    if from_container:
        _from_container(context.engine, from_container, source_path, destination_path, values["follow-link"], quiet)
    elif to_container:
        query = {"copyUIDGID": "true"} if values["archive"] else {}
        _to_container(context.engine, to_container, source_path, destination_path, values["follow-link"], quiet, query)
    else:
        raise CliError("must specify at least one container source")
    return 0


def _from_container(
    engine: EngineClient, container: str, source: str, destination: str, follow: bool, quiet: bool
) -> None:
    if destination != "-":
        destination = absolute(destination)
    check_output(destination)
    rename = ""
    if follow:
        found = look(engine, container, source)
        if found is not None and found.mode & LINK:
            source, rename = CONTAINER.rebased(source, link_target(source, found.link_target))
    response = engine.request("GET", archive_path(container), {"path": source})
    found = decode_stat(response)
    if destination == "-":
        from cove.cli.output import write_stdout

        write_stdout(response)
        return
    place = Place(source, True, bool(found.mode & DIRECTORY), rename)
    progress = Progress("Copying from container - ", quiet=quiet)
    try:
        with progress:
            _unpack(progress.count(response), place, destination)
    except CliError:
        progress.done(destination)
        raise
    progress.done(destination)


def _unpack(chunks: Iterator[bytes], source: Place, destination: str) -> None:
    from cove.cli.cp.tarball import TarReader
    from cove.cli.cp.unpack import Unpacker

    directory, old, new = arrange(source, local_destination(destination), LOCAL)
    if source.rename and not new:
        old, new = CONTAINER.split(source.path)[1], source.rename
    elif source.rename:
        old = CONTAINER.split(source.path)[1]  # the archive has the name of what the link leads to
    Unpacker(directory).unpack(TarReader(chunks), old, new)
    for _ in chunks:
        pass  # what the engine has yet to say after the end of the archive


def _to_container(
    engine: EngineClient,
    container: str,
    source: str,
    destination: str,
    follow: bool,
    quiet: bool,
    query: dict[str, Any],
) -> None:
    if source != "-":
        source = absolute(source)
    place = Place(destination)
    found = look(engine, container, destination)
    if found is not None and found.mode & LINK:
        place = Place(link_target(destination, found.link_target))
        found = look(engine, container, place.path)
    if found is not None:
        if reason := _no_target(found.mode):
            raise CliError(f'destination "{container}:{destination}" must be a directory or a regular file: {reason}')
        place = Place(place.path, True, bool(found.mode & DIRECTORY))
    progress = Progress("Copying to container - ", quiet=quiet)
    unread: list[str] = []
    if source == "-":
        if not place.is_directory:
            raise CliError(f'destination "{container}:{destination}" must be a directory')
        directory, upload = place.path, _stdin()
    else:
        directory, upload = _packed(source, follow, place, unread)
        upload = progress.count(upload)
    try:
        with progress:
            engine.json(
                "PUT",
                archive_path(container),
                {"path": directory, "noOverwriteDirNonDir": "true", **query},
                upload=upload,
                content_type="application/x-tar",
            )
    except CliError:
        progress.done(f"{container}:{place.path}")
        raise
    progress.done(f"{container}:{place.path}")
    if unread:
        raise CliError(f"{len(unread)} of the files could not be read and were not copied")


def _packed(source: str, follow: bool, destination: Place, unread: list[str]) -> tuple[str, Iterator[bytes]]:
    from cove.cli.cp.pack import pack

    place = local_source(source, follow=follow)
    directory, old, new = arrange(place, destination, CONTAINER)

    def final(name: str) -> str:
        return rename_entry(name, old, new) if old or new else name

    return directory, pack(place.path, place.rename, final, unread)


def _no_target(mode: int) -> str:
    if mode & DEVICE:
        return "got a device"
    return "got an irregular file" if mode & IRREGULAR else ""


def _stdin() -> Iterator[bytes]:
    while True:
        try:
            data = os.read(0, CHUNK)
        except OSError as error:
            raise CliError(f"read /dev/stdin: {(error.strerror or str(error)).lower()}") from error
        if not data:
            return
        yield data


COMMANDS = {
    "cp": Command(
        cp,
        "Copy files/folders between a container and the local filesystem\n\n"
        "Use '-' as the source to read a tar archive from stdin\n"
        "and extract it to a directory destination in a container.\n"
        "Use '-' as the destination to stream a tar archive of a\n"
        "container source to stdout.",
        "CONTAINER:SRC_PATH DEST_PATH|-\n\tcove cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        (
            switch("archive", "a", "Archive mode (copy all uid/gid information)"),
            switch("follow-link", "L", "Always follow symbol link in SRC_PATH"),
            switch(
                "quiet",
                "q",
                "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is"
                " attached",
            ),
        ),
        least=2,
        most=2,
    )
}
