"""`system df -v`: what each image, container, volume and piece of build cache takes."""

from __future__ import annotations

import time
from typing import Any

from cove.cli import format as fmt
from cove.cli import images, ps, volumes
from cove.cli.errors import CliError

CACHE_HEADERS = {
    "ID": "CACHE ID", "CacheType": "CACHE TYPE", "Size": "SIZE", "CreatedSince": "CREATED",
    "LastUsedSince": "LAST USED", "UsageCount": "USAGE", "Shared": "SHARED",
}  # fmt: skip
IMAGE_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
CONTAINER_COLUMNS = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")


def detailed(data: dict[str, Any], form: str) -> str:
    """The text for the answer of /system/df. Raises `CliError`, `TemplateError`."""
    now = time.time()
    truncate = form in ("", "table") or form.startswith("table ")
    caches = sorted(data.get("BuildCache") or (), key=_least_recently_used)
    sections = {
        "Images": [_image(item, truncate=truncate, now=now) for item in data.get("Images") or ()],
        "Containers": [
            ps.row({**item, "SizeRootFs": 0}, truncate=truncate, now=now) for item in data.get("Containers") or ()
        ],
        "Volumes": [volumes.row(item) for item in data.get("Volumes") or ()],
        "BuildCache": [_cache(item, truncate=truncate, now=now) for item in caches],
    }
    if form not in ("", "table"):
        return _templated(sections, form)
    cached = fmt.human_size(sum(item["Size"] for item in caches if not item.get("Shared")))
    tables = (
        ("Images space usage:", "Images", images.HEADERS, IMAGE_COLUMNS, "imageContext"),
        ("Containers space usage:", "Containers", ps.HEADERS, CONTAINER_COLUMNS, "ContainerContext"),
        ("Local Volumes space usage:", "Volumes", volumes.HEADERS, ("Name", "Links", "Size"), "volumeContext"),
        (f"Build cache usage: {cached}", "BuildCache", CACHE_HEADERS, tuple(CACHE_HEADERS), "buildCacheContext"),
    )
    return "\n".join(
        f"{title}\n\n" + fmt.render(sections[section], "", headers, columns, kind)
        for title, section, headers, columns, kind in tables
    )


def _templated(sections: dict[str, list[dict[str, Any]]], form: str) -> str:
    from cove.cli.gotemplate import GoStruct, Template, TemplateError, to_json

    class Usage(GoStruct):
        def marshalled(self) -> str:
            return "{" + ",".join(f'"{name}":{to_json(rows)}' for name, rows in self.items()) + "}"

    usage = Usage({name: [GoStruct(row) for row in rows] for name, rows in sections.items()})
    if form == "json":
        return usage.marshalled()
    if form.startswith("table "):
        form = form[6:].strip()
    try:
        template = Template(form.replace("\\t", "\t").replace("\\n", "\n"))
    except TemplateError as error:
        raise CliError(f"template parsing error: {error.message}") from error
    return template.render(usage, lambda name: f"can't evaluate field {name} in type *formatter.diskUsageContext")


def _image(item: dict[str, Any], *, truncate: bool, now: float) -> dict[str, Any]:
    """One line for each image, by its first name."""
    first = next(iter(item.get("RepoTags") or ()), None)
    one = {**item, "RepoTags": [first] if first else [], "RepoDigests": []}
    row = next(images.image_rows([one], digests=False, truncate=truncate, now=now))
    row["Digest"] = ""
    shared = item.get("SharedSize", -1)
    if shared >= 0 and item["Size"] >= 0:
        row["UniqueSize"] = fmt.human_size(item["Size"] - shared)
    return row


def _least_recently_used(item: dict[str, Any]) -> tuple[float, str]:
    return fmt.parse_time(item.get("LastUsedAt") or ""), str(item["ID"])


def _cache(item: dict[str, Any], *, truncate: bool, now: float) -> dict[str, Any]:
    used = item.get("LastUsedAt") or ""
    identity, parents = str(item["ID"]), ", ".join(item.get("Parents") or ())
    return {
        "ID": (fmt.short_id(identity) if truncate else identity) + ("*" if item.get("InUse") else ""),
        "Parent": fmt.short_id(parents) if truncate else parents,
        "CacheType": item.get("Type", ""),
        "Size": fmt.human_size(item["Size"], 3),
        "CreatedAt": fmt.go_time(item["CreatedAt"]) if item.get("CreatedAt") else "",
        "CreatedSince": fmt.ago(fmt.parse_time(item.get("CreatedAt") or ""), now),
        "LastUsedAt": fmt.go_time(used) if used else "",
        "LastUsedSince": fmt.ago(fmt.parse_time(used), now) if used else "",
        "UsageCount": str(item.get("UsageCount", 0)),
        "InUse": str(bool(item.get("InUse"))).lower(),
        "Shared": str(bool(item.get("Shared"))).lower(),
        "Description": item.get("Description", ""),
    }
