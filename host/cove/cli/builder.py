"""`builder`: what is kept of builds, how much room it takes, and how it is removed."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from cove.cli import format as fmt
from cove.cli import values
from cove.cli.build_engine import BUILDER, builder_name, dialer
from cove.cli.build_usage import ago, moment, shown
from cove.cli.client import filters
from cove.cli.command import Command, Context, confirm
from cove.cli.errors import CliError
from cove.cli.flags import Flag, Values, filters_flag, switch, text

if TYPE_CHECKING:
    from coved.buildkit.messages import UsageRecord
    from coved.grpc.client import Channel

HEADER = ("ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED")
WARNING = "WARNING! This will remove all {} build cache. Are you sure you want to continue?"
TAB = 8
T = TypeVar("T")


def du(context: Context, given: Values) -> int:
    """`cove builder du`"""
    from coved.buildkit import messages as m

    if given["format"] and given["verbose"]:
        raise CliError("ERROR: --format and --verbose cannot be used together")
    form = given["format"] or ("pretty" if given["verbose"] else "table")
    wanted, _ = _filter(given["filter"])

    async def ask(channel: Channel) -> list[UsageRecord]:
        return (await channel.unary(m.DISK_USAGE, m.DiskUsageRequest(wanted))).record

    records = sorted(_asked(context, given, ask), key=lambda record: (record.size, record.id), reverse=True)
    try:
        sys.stdout.write(shown(records, form, time.time()))
    except CliError as error:
        raise CliError(f"ERROR: {error.message}") from error
    if form in ("table", "pretty") and not given["filter"]:
        sys.stdout.write(_summary(records))
    return 0


def prune(context: Context, given: Values) -> int:
    """`cove builder prune`"""
    from coved.buildkit import messages as m

    from cove.cli.prune import with_configured

    wanted, age = _filter(with_configured(given["filter"]))
    if not given["force"] and not confirm(WARNING.format("dangling" if not given["all"] else "").replace("  ", " ")):
        return 0
    reserved = given["reserved-space"] or given["keep-storage"]
    request = m.PruneRequest(wanted, given["all"], age, reserved, given["max-used-space"], given["min-free-space"])
    total = 0

    async def ask(channel: Channel) -> None:
        nonlocal total
        head: list[Sequence[str]] = [HEADER]
        async with channel.open(m.PRUNE) as call:
            await call.send(request, end=True)
            async for record in _records(call):
                total += record.size
                now = time.time()
                text = _described(record, now) if given["verbose"] else tabbed([*head, _row(record, now)])
                head = []
                sys.stdout.write(text)
                sys.stdout.flush()

    _asked(context, given, ask)
    sys.stdout.write(tabbed([("Total:", fmt.human_size(total))]))
    return 0


async def _records(call: Any) -> AsyncIterator[UsageRecord]:
    async for record in call:
        yield record


def _asked(context: Context, given: Values, ask: Callable[[Channel], Coroutine[Any, Any, T]]) -> T:
    """What the engine's BuildKit answers. Raises `CliError`."""
    from coved.grpc.status import GrpcError

    from cove.build.engine import Engine

    builder_name(context.engine, given["builder"])

    async def run() -> T:
        async with Engine(dialer(context.engine)).channel() as channel:
            return await ask(channel)

    try:
        return asyncio.run(run())
    except GrpcError as error:
        raise CliError(f"ERROR: {error.message}") from error


def _filter(given: Iterable[str]) -> tuple[list[str], int]:
    """`--filter` as BuildKit takes it, and how long nothing may have been used, in nanoseconds. Raises `CliError`."""
    import json

    found: dict[str, list[str]] = {key: [*values] for key, values in json.loads(filters(given) or "{}").items()}
    if "until" in found and "unused-for" in found:
        raise CliError('ERROR: conflicting filters "until" and "unused-for"')
    age, texts = 0, []
    for key, several in found.items():
        if len(several) > 1:
            raise CliError(f'ERROR: "{key}" filter expects only one value')
        if key in ("until", "unused-for"):
            try:
                age = values.duration(several[0])
            except ValueError as error:
                raise CliError(f"ERROR: \"{key}\" filter expects a duration (e.g., '24h'): {error}") from None
            continue
        sign = "~=" if key == "id" else "=" if key.endswith(("!", "~")) else "=="
        texts.append(f"{key}{sign}{several[0]}")
    return [",".join(texts)], age


def _row(record: UsageRecord, now: float) -> tuple[str, ...]:
    identity = f"{record.id}*" if record.mutable else record.id
    size = fmt.human_size(record.size) + ("*" if record.shared else "")
    return f"{identity:<40}", f"{_word(not record.in_use):<5}", f"{size:<10}", ago(record.last_used_at, now)


def _word(value: bool) -> str:
    return "true" if value else "false"


def _described(record: UsageRecord, now: float) -> str:
    told = {
        "ID": record.id,
        "Parent": ",".join(record.parents),
        "Created at": moment(record.created_at),
        "Mutable": _word(record.mutable),
        "Reclaimable": _word(not record.in_use),
        "Shared": _word(record.shared),
        "Size": fmt.human_size(record.size),
        "Description": record.description,
        "Usage count": str(record.usage_count),
        "Last used": ago(record.last_used_at, now),
        "Type": record.record_type,
    }
    return tabbed([(f"{name}:", value) for name, value in told.items() if value]) + "\n"


def _summary(records: Sequence[UsageRecord]) -> str:
    total = sum(each.size for each in records if each.size > 0)
    reclaimable = sum(each.size for each in records if each.size > 0 and not each.in_use)
    shared = sum(each.size for each in records if each.shared)
    rows = [("Shared:", shared), ("Private:", total - shared)] if shared > 0 else []
    rows += [("Reclaimable:", reclaimable), ("Total:", total)]
    return tabbed([(name, fmt.human_size(size)) for name, size in rows])


def tabbed(rows: Sequence[Sequence[str]]) -> str:
    """Columns that are apart by tabs, as Go's tabwriter sets them."""
    columns = max(map(len, rows), default=0)
    widths = [max(len(row[column]) for row in rows) // TAB * TAB + TAB for column in range(columns - 1)]
    lines = []
    for row in rows:
        cells = [cell + "\t" * -(-(width - len(cell)) // TAB) for cell, width in zip(row, widths, strict=False)]
        lines.append("".join(cells) + row[-1] + "\n")
    return "".join(lines)


def _bytes(name: str, help: str) -> Flag:
    return Flag(name, kind="bytes", parse=values.size, default=0, help=help)


_KEEP = _bytes("keep-storage", "Amount of disk space to keep for cache")
_RESERVED = _bytes("reserved-space", "Amount of disk space always allowed to keep for cache")
_RESERVED.hidden = True  # newer clients' name for what older engines know by the one above

COMMANDS = {
    "builder du": Command(
        du,
        "Disk usage",
        "",
        (
            BUILDER,
            filters_flag("", "Provide filter values"),
            text("format", "", "Format the output"),
            switch("verbose", "", 'Shorthand for "--format=pretty"'),
        ),
        most=0,
    ),
    "builder prune": Command(
        prune,
        "Remove build cache",
        "",
        (
            BUILDER,
            switch("all", "a", "Include internal/frontend images"),
            filters_flag("", 'Provide filter values (e.g., "until=24h")'),
            switch("force", "f", "Do not prompt for confirmation"),
            _KEEP,
            _RESERVED,
            _bytes("max-used-space", "Maximum amount of disk space allowed to keep for cache"),
            _bytes("min-free-space", "Target amount of free disk space after pruning"),
            switch("verbose", "", "Provide a more verbose output"),
        ),
        most=0,
    ),
}
