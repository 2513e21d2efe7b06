"""`system df`."""

from __future__ import annotations

import sys
from typing import Any

from cove.cli import format as fmt
from cove.cli.command import Command, Context
from cove.cli.flags import Values, format_flag, switch

DF_HEADERS = {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}


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
    data = context.engine.json("GET", "/system/df")
    if values["verbose"]:
        from cove.cli.disk_usage import detailed

        sys.stdout.write(detailed(data, values["format"]))
        return 0
    rows = df_rows(data)
    sys.stdout.write(fmt.render(rows, values["format"], DF_HEADERS, tuple(DF_HEADERS), "diskUsageImagesContext"))
    return 0


COMMANDS = {
    "system df": Command(
        df,
        "Show docker disk usage",
        "",
        (format_flag(), switch("verbose", "v", "Show detailed information on space usage")),
        most=0,
    ),
}
