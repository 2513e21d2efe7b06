"""Verbs on images: images, rmi, load, import, tag, save, history, commit."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from cove.cli import format as fmt
from cove.cli.client import filters, quote
from cove.cli.command import Command, Context
from cove.cli.errors import CliError, DaemonError, os_error_text
from cove.cli.flags import Values, filters_flag, format_flag, platform_flag, several, switch, text
from cove.cli.platforms import parameter
from cove.cli.reference import check_reference

CHUNK = 1 << 20
HEADERS = {
    "ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT", "Size": "SIZE", "Containers": "CONTAINERS", "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE",
}  # fmt: skip
HISTORY_HEADERS = {
    "ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "Size": "SIZE",
    "Comment": "COMMENT",
}  # fmt: skip
NONE = "<none>"
SUBCOMMANDS = "build history import inspect list load ls prune pull push rm save tag".split()
"""What a user may have meant who asks `images` for one of this name."""
DATED_FROM = 946684800
"""2000-01-01: what claims to be older was built to have no date."""


def split_reference(reference: str) -> tuple[str, str]:
    """(name, tag or digest) of an image reference; the second may be empty."""
    name, at, digest = reference.partition("@")
    if at:
        return _without_tag(name)[0], digest
    return _without_tag(reference)


def _without_tag(reference: str) -> tuple[str, str]:
    head, colon, tag = reference.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (reference, "")


def familiar_tagged(reference: str) -> str:
    """`busybox` as docker's messages name it, `busybox:latest`."""
    _, tag = split_reference(reference)
    return reference if tag else f"{reference}:latest"


def image_rows(items: list[dict[str, Any]], *, digests: bool, truncate: bool, now: float) -> Iterator[dict[str, Any]]:
    """One row per name of an image, as docker lists them."""
    for item in items:
        tags = [tag for tag in item.get("RepoTags") or () if tag != "<none>:<none>"]
        named = [entry for entry in item.get("RepoDigests") or () if not entry.startswith(f"{NONE}@")]
        by_name: dict[str, tuple[list[str], list[str]]] = {}
        for reference in tags:
            name, tag = split_reference(reference)
            by_name.setdefault(name, ([], []))[0].append(tag)
        for reference in named:
            name, digest = split_reference(reference)
            by_name.setdefault(name, ([], []))[1].append(digest)
        names: list[tuple[str, str, str]] = []
        for name, (its_tags, its_digests) in by_name.items():
            if not digests:
                names += [(name, tag, NONE) for tag in its_tags or [NONE]]
            else:
                names += [(name, tag, digest) for tag in its_tags or [NONE] for digest in its_digests or [NONE]]
        for name, tag, digest in names or [(NONE, NONE, NONE)]:
            yield {
                "ID": fmt.short_id(item["Id"]) if truncate else item["Id"],
                "Repository": name,
                "Tag": tag,
                "Digest": digest,
                "CreatedSince": fmt.ago(item["Created"], now),
                "CreatedAt": fmt.local_time(item["Created"]),
                "Size": fmt.human_size(item["Size"], 3),
                "Containers": "N/A" if item.get("Containers", -1) < 0 else str(item["Containers"]),
                "VirtualSize": fmt.human_size(item["Size"]),
                "SharedSize": "N/A" if item.get("SharedSize", -1) < 0 else fmt.human_size(item["SharedSize"]),
                "UniqueSize": "N/A",
            }


def images(context: Context, values: Values) -> int:
    """`cove images`"""
    given = [*values["filter"], *(f"reference={argument}" for argument in values.args)]
    filtered = filters(given)
    items = context.engine.json("GET", "/images/json", {"all": values["all"], "filters": filtered})
    truncate, form = not values["no-trunc"], values["format"]
    rows = list(image_rows(items, digests=values["digests"], truncate=truncate, now=time.time()))
    if values["quiet"] and form in ("", "table"):
        for row in rows:
            print(row["ID"])
        return 0
    columns = ["Repository", "Tag", *(["Digest"] if values["digests"] else []), "ID", "CreatedSince", "Size"]
    if values["digests"] and form.startswith("table ") and "{{.Digest}}" not in form:
        form += "\t{{.Digest}}"
    sys.stdout.write(fmt.render(rows, form, HEADERS, columns, "imageContext"))
    if not items and context.path.endswith(" images") and values.args and values.args[0] in SUBCOMMANDS:
        sys.stdout.flush()
        program, name = context.path.split(" ")[0], values.args[0]
        print(f'\nNo images found matching "{name}": did you mean "{program} image {name}"?', file=sys.stderr)
    return 0


def rmi(context: Context, values: Values) -> int:
    """`cove rmi`"""
    failures, fatal = [], False
    platforms = [parameter(item) or "" for given in values["platform"] for item in given.split(",")]
    for name in values.args:
        try:
            if "~" in name:
                from cove.cli.earlier import refuse

                refuse(name, "rmi", "remove it by its id, which cove history {name} shows where the step is an image")
            query = {"force": values["force"], "noprune": values["no-prune"], "platforms": platforms}
            for entry in context.engine.json("DELETE", f"/images/{quote(name)}", query):
                if "Deleted" in entry:
                    print(f"Deleted: {entry['Deleted']}")
                else:
                    print(f"Untagged: {entry['Untagged']}")
        except CliError as error:
            failures.append(error.message)
            fatal = fatal or not (isinstance(error, DaemonError) and error.code == 404 and values["force"])
    if failures:
        raise CliError("\n".join(failures), 1 if fatal else 0)
    return 0


def chunks(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """What `stream` gives. Raises `CliError` when it cannot be read, in which `name` tells what it is."""
    try:
        while data := stream.read(CHUNK):
            yield data
    except OSError as error:
        raise CliError(f"read {name}: {(error.strerror or str(error)).lower()}") from error


def load(context: Context, values: Values) -> int:
    """`cove load`"""
    from cove.cli import terminal
    from cove.cli.jsonmessage import show

    path = values["input"]
    if not path and terminal.is_terminal(0):
        raise CliError("requested load from stdin, but stdin is empty")
    with _source(path) as stream:
        quiet = values["quiet"] or not terminal.is_terminal(1)
        query = {"quiet": int(quiet), "platform": parameter(values["platform"], "invalid platform")}
        response = context.engine.request(
            "POST",
            "/images/load",
            query,
            upload=chunks(stream, path or "/dev/stdin"),
            content_type="application/x-tar",
            aside=True,
        )
        if response.headers.get("content-type", "").startswith("application/json"):
            show(response.json_lines(), sys.stdout)
        else:
            sys.stdout.buffer.write(response.read())
    return 0


@contextmanager
def _source(path: str) -> Iterator[IO[bytes]]:
    """The file at `path`, or stdin for none, which stays open: closing it would wait for whoever still reads from it."""
    if not path:
        yield sys.stdin.buffer
        return
    with ExitStack() as opened:
        try:
            stream = opened.enter_context(Path(path).open("rb"))
        except OSError as error:
            raise CliError(os_error_text(error)) from error
        yield stream


def import_(context: Context, values: Values) -> int:
    """`cove import`"""
    from cove.cli.jsonmessage import show

    source, *name = values.args
    if name:
        check_reference(name[0])
    query = {
        "fromSrc": source if source.startswith(("http://", "https://")) else "-",
        "repo": name[0] if name else None,
        "message": values["message"] or None,
        "changes": values["change"],
        "platform": values["platform"] or None,
    }
    if query["fromSrc"] == source and source != "-":
        response = context.engine.request("POST", "/images/create", query)
        show(response.json_lines(), sys.stdout)
        return 0
    path = "" if source == "-" else source
    with _source(path) as stream:
        upload = chunks(stream, path or "/dev/stdin")
        response = context.engine.request(
            "POST", "/images/create", query, upload=upload, content_type="text/plain", aside=True
        )
        show(response.json_lines(), sys.stdout)
    return 0


def _meant(context: Context, image: str) -> str:
    """`image`, or the id of the one that `IMAGE~N` means."""
    if "~" not in image:
        return image
    from cove.cli.earlier import earlier

    return earlier(context.engine, image)


def tag(context: Context, values: Values) -> int:
    """`cove tag`"""
    source, target = values.args
    try:
        check_reference(target)
    except CliError as error:
        raise CliError(f'Error parsing reference: "{target}" is not a valid repository/tag: {error.message}') from error
    name, label = split_reference(target)
    source = _meant(context, source)
    context.engine.json("POST", f"/images/{quote(source)}/tag", {"repo": name, "tag": label or "latest"})
    return 0


def save(context: Context, values: Values) -> int:
    """`cove save`: into a file beside which a partial one never takes its place, or to stdout."""
    from cove.cli import terminal
    from cove.cli.output import check_file, write_file, write_stdout

    platform = parameter(values["platform"], "invalid platform")
    output = values["output"]
    if not output and terminal.is_terminal(1):
        raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if output:
        check_file(output, "failed to save image")
    names = [_meant(context, name) for name in values.args]
    response = context.engine.request("GET", "/images/get", {"names": names, "platform": platform})
    if output:
        write_file(output, response)
        return 0
    write_stdout(response)
    return 0


def history(context: Context, values: Values) -> int:
    """`cove history`"""
    query = {"platform": parameter(values["platform"], "invalid platform")}
    items = context.engine.json("GET", f"/images/{quote(_meant(context, values.args[0]))}/history", query)
    truncate, now = not values["no-trunc"], time.time()

    def shown_id(item: dict[str, Any]) -> str:
        return fmt.short_id(item["Id"]) if truncate and item["Id"] != "<missing>" else str(item["Id"])

    if values["quiet"] and values["format"] in ("", "table"):
        for item in items:
            print(shown_id(item))
        return 0
    rows = []
    for item in items:
        by = item["CreatedBy"].replace("\t", " ")
        moment = fmt.rfc3339(item["Created"])
        since = fmt.ago(item["Created"], now) if item["Created"] > DATED_FROM else "N/A"
        rows.append(
            {
                "ID": shown_id(item),
                "CreatedAt": moment,
                "CreatedSince": since if values["human"] else moment,
                "CreatedBy": fmt.truncate(by, 45) if truncate else by,
                "Size": fmt.human_size(item["Size"], 3) if values["human"] else str(item["Size"]),
                "Comment": item["Comment"],
            }
        )
    columns = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")
    headers = HISTORY_HEADERS if values["human"] else HISTORY_HEADERS | {"CreatedSince": "CREATED AT"}
    sys.stdout.write(fmt.render(rows, values["format"], headers, columns, "image.historyContext"))
    return 0


def commit(context: Context, values: Values) -> int:
    """`cove commit`"""
    container, target = values.args[0].strip(), "".join(values.args[1:])
    if not container:
        raise CliError("invalid container name or ID: value is empty")
    name = label = ""
    if target:
        check_reference(target)
        if "@" in target:
            raise CliError("refusing to create a tag with a digest reference")
        name, label = split_reference(target)
    query: dict[str, Any] = {
        "container": container,
        "repo": name or None,
        "tag": (label or "latest") if target else None,
        "comment": values["message"] or None,
        "author": values["author"] or None,
        "changes": values["change"],
        "pause": None if values["pause"] else "0",
    }
    print(context.engine.json("POST", "/commit", query, body={})["Id"])
    return 0


_FORMAT = format_flag()

COMMANDS = {
    "images": Command(
        images,
        "List images",
        "[REPOSITORY[:TAG]]",
        (
            switch("all", "a", "Show all images (default hides intermediate images)"),
            switch("digests", "", "Show digests"),
            filters_flag(),
            _FORMAT,
            switch("no-trunc", "", "Don't truncate output"),
            switch("quiet", "q", "Only show image IDs"),
        ),
        most=1,
    ),
    "rmi": Command(
        rmi,
        "Remove one or more images",
        "IMAGE [IMAGE...]",
        (
            switch("force", "f", "Force removal of the image"),
            switch("no-prune", "", "Do not delete untagged parents"),
            several(
                "platform",
                "",
                'Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
                kind="strings",
            ),
        ),
        least=1,
    ),
    "load": Command(
        load,
        "Load an image from a tar archive or STDIN",
        "",
        (
            text("input", "i", "Read from tar archive file, instead of STDIN"),
            text(
                "platform",
                "",
                'Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
            ),
            switch("quiet", "q", "Suppress the load output"),
        ),
        most=0,
    ),
    "import": Command(
        import_,
        "Import the contents from a tarball to create a filesystem image",
        "file|URL|- [REPOSITORY[:TAG]]",
        (
            several("change", "c", "Apply Dockerfile instruction to the created image"),
            text("message", "m", "Set commit message for imported image"),
            platform_flag(),
        ),
        least=1,
    ),
    "tag": Command(
        tag,
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        least=2,
        most=2,
        interspersed=False,
    ),
    "save": Command(
        save,
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        "IMAGE [IMAGE...]",
        (
            text("output", "o", "Write to a file, instead of STDOUT"),
            text(
                "platform",
                "",
                'Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
            ),
        ),
        least=1,
    ),
    "history": Command(
        history,
        "Show the history of an image",
        "IMAGE",
        (
            _FORMAT,
            switch("human", "H", "Print sizes and dates in human readable format", True),
            switch("no-trunc", "", "Don't truncate output"),
            text(
                "platform",
                "",
                'Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
            ),
            switch("quiet", "q", "Only show image IDs"),
        ),
        least=1,
        most=1,
    ),
    "commit": Command(
        commit,
        "Create a new image from a container's changes",
        "CONTAINER [REPOSITORY[:TAG]]",
        (
            text("author", "a", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
            several("change", "c", "Apply Dockerfile instruction to the created image"),
            text("message", "m", "Commit message"),
            switch("pause", "p", "Pause container during commit", True),
        ),
        least=1,
        most=2,
        interspersed=False,
    ),
}
