"""Verbs on images: images, rmi, load, import, tag, save, history, commit."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cove.cli import format as fmt
from cove.cli import platforms
from cove.cli.client import filters, quote
from cove.cli.command import Command, Context
from cove.cli.errors import CliError, DaemonError, os_error_text
from cove.cli.flags import Values, filters_flag, format_flag, several, switch, text
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
    sys.stdout.write(fmt.render(rows, form, HEADERS, columns, "imageContext"))
    return 0


def rmi(context: Context, values: Values) -> int:
    """`cove rmi`"""
    failures, fatal = [], False
    for name in values.args:
        try:
            check_reference(name)
            query = {"force": values["force"], "noprune": values["no-prune"]}
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


def chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while data := stream.read(CHUNK):
        yield data


def load(context: Context, values: Values) -> int:
    """`cove load`"""
    from cove.cli import terminal
    from cove.cli.pull import show_progress

    path = values["input"]
    if not path and terminal.is_terminal(0):
        raise CliError("requested load from stdin, but stdin is empty")
    quiet = values["quiet"] or not terminal.is_terminal(1)
    query = {"quiet": quiet, "platform": platforms.to_json(values["platform"] or "")}
    with _source(path or "-") as stream:
        response = context.engine.request(
            "POST", "/images/load", query, upload=chunks(stream), content_type="application/x-tar"
        )
        if response.headers.get("content-type", "").startswith("application/json"):
            show_progress(response, sys.stdout)
        else:
            sys.stdout.buffer.write(response.read())
    return 0


def _source(path: str) -> IO[bytes]:
    if path == "-":
        return sys.stdin.buffer
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise CliError(os_error_text(error)) from error


def import_(context: Context, values: Values) -> int:
    """`cove import`"""
    from cove.cli.pull import show_progress

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
    else:
        with _source(source) as stream:
            response = context.engine.request(
                "POST", "/images/create", query, upload=chunks(stream), content_type="text/plain"
            )
    show_progress(response, sys.stdout)
    return 0


def tag(context: Context, values: Values) -> int:
    """`cove tag`"""
    source, target = values.args
    try:
        check_reference(target)
    except CliError as error:
        raise CliError(f'Error parsing reference: "{target}" is not a valid repository/tag: {error.message}') from error
    name, label = split_reference(target)
    context.engine.json("POST", f"/images/{quote(source)}/tag", {"repo": name, "tag": label or "latest"})
    return 0


def save(context: Context, values: Values) -> int:
    """`cove save`: into a file beside which a partial one never takes its place, or to stdout."""
    from cove.cli import terminal
    from cove.cli.output import check_file, write_file, write_stdout

    output = values["output"]
    if not output and terminal.is_terminal(1):
        raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if output:
        check_file(output, "failed to save image")
    platform = platforms.to_json(values["platform"] or "")
    response = context.engine.request("GET", "/images/get", {"names": values.args, "platform": platform})
    if output:
        write_file(output, response)
        return 0
    write_stdout(response)
    return 0


def history(context: Context, values: Values) -> int:
    """`cove history`"""
    items = context.engine.json("GET", f"/images/{quote(values.args[0])}/history")
    truncate, now = not values["no-trunc"], time.time()

    def shown_id(item: dict[str, Any]) -> str:
        return fmt.short_id(item["Id"]) if truncate and item["Id"] != "<missing>" else str(item["Id"])

    if values["quiet"]:
        for item in items:
            print(shown_id(item))
        return 0
    rows = []
    for item in items:
        by = item["CreatedBy"].replace("\t", " ")
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(item["Created"]))
        rows.append(
            {
                "ID": shown_id(item),
                "CreatedAt": moment,
                "CreatedSince": fmt.ago(item["Created"], now) if values["human"] else moment,
                "CreatedBy": fmt.truncate(by, 45) if truncate else by,
                "Size": fmt.human_size(item["Size"], 3) if values["human"] else str(item["Size"]),
                "Comment": item["Comment"],
            }
        )
    columns = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")
    headers = HISTORY_HEADERS if values["human"] else HISTORY_HEADERS | {"CreatedSince": "CREATED AT"}
    sys.stdout.write(fmt.render(rows, values["format"], headers, columns, "historyContext"))
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
        (switch("force", "f", "Force removal of the image"), switch("no-prune", "", "Do not delete untagged parents")),
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
            text("platform", "", "Set platform if server is multi-platform capable"),
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
