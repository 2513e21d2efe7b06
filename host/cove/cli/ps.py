"""`ps`: the list of containers."""

from __future__ import annotations

import sys
import time
from typing import Any

from cove.cli import format as fmt
from cove.cli import ports
from cove.cli.client import filters
from cove.cli.command import Command, Context
from cove.cli.flags import Values, filters_flag, format_flag, integer, switch
from cove.cli.quoting import quoted

HEADERS = {
    "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "RunningFor": "CREATED", "CreatedAt": "CREATED AT",
    "Status": "STATUS", "State": "STATE", "Ports": "PORTS", "Names": "NAMES", "Size": "SIZE", "Labels": "LABELS",
    "Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS", "Platform": "PLATFORM",
}  # fmt: skip
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def row(item: dict[str, Any], *, truncate: bool, now: float) -> dict[str, Any]:
    """One container as the names that `--format` knows."""
    labels = item.get("Labels") or {}
    names = [name.lstrip("/") for name in item.get("Names") or ()]
    if truncate:
        names = [name for name in names if "/" not in name]
    command = fmt.truncate(item["Command"], 20) if truncate else item["Command"]
    image = item["Image"] or "<no image>"
    if truncate and image.startswith("sha256:"):
        image = fmt.short_id(image)
    mounts = [mount.get("Name") or mount.get("Source") or "" for mount in item.get("Mounts") or ()]
    size, virtual = item.get("SizeRw") or 0, item.get("SizeRootFs") or 0
    return {
        "ID": fmt.short_id(item["Id"]) if truncate else item["Id"],
        "Names": ",".join(names),
        "Image": image,
        "Command": quoted(command),
        "CreatedAt": fmt.local_time(item["Created"]),
        "RunningFor": fmt.ago(item["Created"], now),
        "Ports": ports.display(item.get("Ports") or ()),
        "State": item.get("State", ""),
        "Status": item.get("Status", ""),
        "Size": fmt.human_size(size, 3) + (f" (virtual {fmt.human_size(virtual, 3)})" if virtual else ""),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "Mounts": ",".join(fmt.truncate(name, 15) if truncate else name for name in mounts),
        "LocalVolumes": str(sum(mount.get("Driver") == "local" for mount in item.get("Mounts") or ())),
        "Networks": ",".join(sorted((item.get("NetworkSettings") or {}).get("Networks") or {})),
        "Platform": None,
        "Label": fmt.label_of(labels),
    }


def _shows_size(form: str) -> bool:
    """Whether the template `form` uses the size, which the engine tells only when asked. Raises `TemplateError` for a
    mistake in the template, even when no container is there: docker words it otherwise than those of other lists.
    """
    if form in ("", "table", "json"):
        return False
    from cove.cli.gotemplate import GoStruct, Template, TemplateError

    used: set[str] = set()

    class Probe(GoStruct):
        def __getitem__(self, name: str) -> Any:
            used.add(name)
            return super().__getitem__(name)

    try:
        template = Template(form)
    except TemplateError as error:
        raise TemplateError(f"failed to parse template: {error.message}") from error
    probe = Probe(dict.fromkeys(HEADERS, ""), Label=fmt.label_of({}))
    try:
        template.render(probe, lambda name: f"can't evaluate field {name} in type *formatter.ContainerContext")
    except TemplateError as error:
        raise TemplateError(f"failed to execute template: {error.message}") from error
    return "Size" in used


def ps(context: Context, values: Values) -> int:
    """`cove ps`"""
    form = values["format"]
    last = 1 if values["latest"] and values["last"] == -1 else values["last"]
    wants_size = values["size"] or _shows_size(form)
    filtered = filters(values["filter"])
    query = {"all": values["all"], "filters": filtered, "limit": last if last > 0 else None, "size": wants_size}
    items = context.engine.json("GET", "/containers/json", query)
    truncate = not values["no-trunc"]
    if values["quiet"]:
        if form:
            print("WARNING: Ignoring custom format, because both --format and --quiet are set.", file=sys.stderr)
        for item in items:
            print(fmt.short_id(item["Id"]) if truncate else item["Id"])
        return 0
    now = time.time()
    rows = [row(item, truncate=truncate, now=now) for item in items]
    columns = (*COLUMNS, "Size") if values["size"] else COLUMNS
    sys.stdout.write(fmt.render(rows, form, HEADERS, columns, "ContainerContext"))
    return 0


COMMANDS = {
    "ps": Command(
        ps,
        "List containers",
        "",
        (
            switch("all", "a", "Show all containers (default shows just running)"),
            filters_flag(),
            format_flag(),
            integer("last", "n", "Show n last created containers (includes all states)", -1),
            switch("latest", "l", "Show the latest created container (includes all states)"),
            switch("no-trunc", "", "Don't truncate output"),
            switch("quiet", "q", "Only display container IDs"),
            switch("size", "s", "Display total file sizes"),
        ),
        most=0,
    )
}
