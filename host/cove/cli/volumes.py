"""`volume create|ls|rm|update`."""

from __future__ import annotations

import sys
from typing import Any

from cove.cli import format as fmt
from cove.cli.client import filters, quote
from cove.cli.command import Command, Context, for_each
from cove.cli.errors import CliError
from cove.cli.flags import Flag, Values, filters_flag, format_flag, several, switch, text
from cove.cli.run_options import pairs
from cove.cli.values import label

HEADERS = {
    "Name": "VOLUME NAME", "Driver": "DRIVER", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT", "Labels": "LABELS",
    "Links": "LINKS", "Size": "SIZE", "Availability": "AVAILABILITY", "Group": "GROUP", "Status": "STATUS",
}  # fmt: skip


def create(context: Context, values: Values) -> int:
    """`cove volume create`"""
    if values["name"] and values.args:
        raise CliError("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
    body = {
        "Name": values.args[0] if values.args else values["name"],
        "Driver": values["driver"],
        "DriverOpts": pairs(values["opt"]),
        "Labels": pairs(values["label"]),
    }
    print(context.engine.json("POST", "/volumes/create", body=body)["Name"])
    return 0


def row(item: dict[str, Any]) -> dict[str, Any]:
    """One volume as the names that `--format` knows; how large it is only /system/df tells."""
    labels = item.get("Labels") or {}
    usage = item.get("UsageData")
    return {
        "Name": item["Name"],
        "Driver": item["Driver"],
        "Scope": item["Scope"],
        "Mountpoint": item["Mountpoint"],
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "Links": str(usage["RefCount"]) if usage else "N/A",
        "Size": fmt.human_size(usage["Size"]) if usage else "N/A",
        "Availability": "N/A",
        "Group": "N/A",
        "Status": "N/A",
        "Label": fmt.label_of(labels),
    }


def ls(context: Context, values: Values) -> int:
    """`cove volume ls`"""
    filtered = filters(values["filter"])
    answer = context.engine.json("GET", "/volumes", {"filters": filtered})
    items = sorted(answer.get("Volumes") or (), key=lambda item: str(item["Name"]))
    rows = [row(item) for item in items]
    if values["quiet"] and values["format"] in ("", "table"):
        for item in rows:
            print(item["Name"])
        return 0
    sys.stdout.write(fmt.render(rows, values["format"], HEADERS, ("Driver", "Name"), "volumeContext"))
    return 0


def rm(context: Context, values: Values) -> int:
    """`cove volume rm`"""

    def one(name: str) -> str:
        context.engine.json("DELETE", f"/volumes/{quote(name)}", {"force": values["force"]})
        return name

    return for_each(values.args, one)


def update(context: Context, values: Values) -> int:
    """`cove volume update`: for volumes of a swarm, which there are none of."""
    context.engine.json("GET", f"/volumes/{quote(values.args[0])}")
    raise CliError("can only update cluster volumes")


COMMANDS = {
    "volume create": Command(
        create,
        "Create a volume",
        "[VOLUME]",
        (
            text("driver", "d", "Specify volume driver name", "local"),
            several("label", "", "Set metadata for a volume", label),
            several("opt", "o", "Set driver specific options", kind="map"),
            Flag("name", "", kind="string", default="", help="", hidden=True),
        ),
        most=1,
    ),
    "volume ls": Command(
        ls,
        "List volumes",
        "",
        (
            filters_flag(help='Provide filter values (e.g. "dangling=true")'),
            format_flag(),
            switch("quiet", "q", "Only display volume names"),
        ),
        most=0,
    ),
    "volume rm": Command(
        rm,
        "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
        "VOLUME [VOLUME...]",
        (switch("force", "f", "Force the removal of one or more volumes"),),
        least=1,
    ),
    "volume update": Command(
        update,
        "Update a volume (cluster volumes only)",
        "[VOLUME]",
        (
            # Told of where the engine is one of a swarm's managers, which none of Cove's is.
            Flag("availability", default="active", help="Cluster Volume availability", hidden=True),
        ),
        least=1,
        most=1,
    ),
}
