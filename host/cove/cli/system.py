"""`events` and `system df`."""

from __future__ import annotations

import sys
from typing import Any

from cove.cli import format as fmt
from cove.cli.client import filters
from cove.cli.command import Command, Context
from cove.cli.errors import CliError
from cove.cli.flags import Values, filters_flag, text
from cove.cli.timestamp import timestamp

DF_HEADERS = {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}


def event_line(event: dict[str, Any]) -> str:
    """`2026-11-24T20:10:21.123456789Z container start <id> (image=busybox, name=c1)`"""
    import time

    nanoseconds = event.get("timeNano") or event["time"] * 10**9
    seconds, rest = divmod(nanoseconds, 10**9)
    moment = time.localtime(seconds)
    zone = time.strftime("%z", moment)
    offset = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{rest:09d}{offset}"
    actor = event.get("Actor") or {}
    attributes = ", ".join(f"{key}={value}" for key, value in sorted((actor.get("Attributes") or {}).items()))
    line = f"{stamp} {event['Type']} {event['Action']} {actor.get('ID', '')}"
    return f"{line} ({attributes})" if attributes else line


def events(context: Context, values: Values) -> int:
    """`cove events`: prints until the engine ends the stream or Ctrl-C."""
    form = values["format"]
    template = None
    if form not in ("", "json"):
        from cove.cli.gotemplate import Template, TemplateError

        try:
            template = Template(form)
        except TemplateError as error:
            raise CliError(f"Error parsing format: {error}", 64) from error
    filtered = filters(values["filter"])
    query = {
        "since": timestamp(values["since"]) if values["since"] else None,
        "until": timestamp(values["until"]) if values["until"] else None,
        "filters": filtered,
    }
    for event in context.engine.request("GET", "/events", query).json_lines():
        if template is not None:
            line = template.render(event, lambda name: f"can't evaluate field {name} in type events.Message")
        elif form == "json":
            from cove.cli.gotemplate import to_json

            line = to_json(event)
        else:
            line = event_line(event)
        print(line, flush=True)
    return 0


def _reclaimable(free: float, total: float) -> str:
    share = f" ({int(free * 100 / total)}%)" if total > 0 else ""
    return fmt.human_size(free) + share


def df_rows(data: dict[str, Any]) -> list[dict[str, str]]:
    """The four lines of `system df`."""
    images, containers = data.get("Images") or (), data.get("Containers") or ()
    volumes, caches = data.get("Volumes") or (), data.get("BuildCache") or ()
    used = sum(
        max(item.get("Size", 0) - max(item.get("SharedSize", 0), 0), 0) for item in images if item["Containers"] > 0
    )
    layers = data.get("LayersSize") or 0
    container_size = sum(item.get("SizeRw") or 0 for item in containers)
    idle = sum(
        item.get("SizeRw") or 0 for item in containers if item["State"] not in ("running", "paused", "restarting")
    )
    sizes = [
        ((item.get("UsageData") or {}).get("Size", -1), (item.get("UsageData") or {}).get("RefCount", 0))
        for item in volumes
    ]
    volume_size = sum(max(size, 0) for size, _ in sizes)
    volume_free = sum(max(size, 0) for size, references in sizes if references == 0)
    cache_size = sum(item["Size"] for item in caches if not item.get("Shared"))
    cache_free = sum(item["Size"] for item in caches if not item.get("Shared") and not item.get("InUse"))

    def line(kind: str, total: int, active: int, size: float, reclaimable: str) -> dict[str, str]:
        return {
            "Type": kind,
            "TotalCount": str(total),
            "Active": str(active),
            "Size": fmt.human_size(size),
            "Reclaimable": reclaimable,
        }

    busy = sum(bool(item.get("InUse")) for item in caches)
    running = sum(item["State"] in ("running", "paused", "restarting") for item in containers)
    return [
        line(
            "Images", len(images), sum(item["Containers"] > 0 for item in images), layers,
            _reclaimable(layers - used, layers),
        ),
        line("Containers", len(containers), running, container_size, _reclaimable(idle, container_size)),
        line(
            "Local Volumes", len(volumes), sum(references > 0 for _, references in sizes), volume_size,
            _reclaimable(volume_free, volume_size),
        ),
        line("Build Cache", len(caches), busy, cache_size, fmt.human_size(cache_free)),
    ]  # fmt: skip


def df(context: Context, values: Values) -> int:
    """`cove system df`"""
    rows = df_rows(context.engine.json("GET", "/system/df"))
    sys.stdout.write(fmt.render(rows, values["format"], DF_HEADERS, tuple(DF_HEADERS), "diskUsageContext"))
    return 0


_FORMAT = text("format", "", "Format output using a custom template: table, json, or a Go template")
COMMANDS = {
    "events": Command(
        events,
        "Get real time events from the server",
        "",
        (
            filters_flag(),
            _FORMAT,
            text("since", "", "Show all events created since timestamp"),
            text("until", "", "Stream events until this timestamp"),
        ),
        most=0,
    ),
    "system df": Command(df, "Show docker disk usage", "", (_FORMAT,), most=0),
}
