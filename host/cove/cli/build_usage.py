"""What `builder du` prints of the records of builds, as buildx does since 0.28 (its `commands/diskusage.go`)."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cove.cli import format as fmt

if TYPE_CHECKING:
    from coved.buildkit.messages import UsageRecord

HEADERS = {
    "ID": "ID", "Parents": "PARENTS", "CreatedAt": "CREATED AT", "Mutable": "MUTABLE", "Reclaimable": "RECLAIMABLE",
    "Shared": "SHARED", "Size": "SIZE", "Description": "DESCRIPTION", "UsageCount": "USAGE COUNT",
    "LastUsedAt": "LAST ACCESSED", "Type": "TYPE",
}  # fmt: skip
TABLE = "table {{.ID}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastUsedAt}}"


def shown(records: Sequence[UsageRecord], form: str, now: float) -> str:
    """`records` by `--format`: "table", "pretty", "json" or a template. Raises `TemplateError`."""
    if form == "pretty":
        return "".join(_described(_row(record, now, marked=False)) for record in records)
    form = TABLE if form in ("", "table") else form
    rows = [_row(record, now, marked=form.startswith("table")) for record in records]
    return fmt.render(rows, form, HEADERS, (), "commands.diskusageContext")


def _row(record: UsageRecord, now: float, *, marked: bool) -> dict[str, Any]:
    """One record as the names that `--format` knows; in tables an asterisk marks what is mutable, and what is shared."""
    return {
        "ID": record.id + ("*" if marked and record.mutable else ""),
        "Parents": list(record.parents) or None,
        "CreatedAt": moment(record.created_at),
        "Mutable": record.mutable,
        "Reclaimable": not record.in_use,
        "Shared": record.shared,
        "Size": fmt.human_size(record.size) + ("*" if marked and record.shared else ""),
        "Description": record.description,
        "UsageCount": record.usage_count,
        "LastUsedAt": ago(record.last_used_at, now),
        "Type": record.record_type,
    }


def _described(row: dict[str, Any]) -> str:
    from cove.cli.gotemplate import to_text

    lines = [("ID", row["ID"])]
    if row["Parents"]:
        lines.append(("Parents", "".join(f"\n - {parent}" for parent in row["Parents"])))
    lines += [
        ("Created at", row["CreatedAt"]),
        ("Mutable", row["Mutable"]),
        ("Reclaimable", row["Reclaimable"]),
        ("Shared", row["Shared"]),
        ("Size", row["Size"]),
    ]
    lines += [("Description", row["Description"])] if row["Description"] else []
    lines.append(("Usage count", row["UsageCount"]))
    lines += [("Last used", row["LastUsedAt"])] if row["LastUsedAt"] else []
    lines += [("Type", row["Type"])] if row["Type"] else []
    told = [f"{name}:{value}" if name == "Parents" else f"{name + ':':<14}{to_text(value)}" for name, value in lines]
    return "\n".join(told) + "\n\n"


def ago(nanoseconds: int, now: float) -> str:
    return fmt.ago(nanoseconds / 10**9, now) if nanoseconds else ""


def moment(nanoseconds: int) -> str:
    """As Go writes a time in UTC."""
    seconds, rest = divmod(nanoseconds, 10**9)
    told = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{told:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"
