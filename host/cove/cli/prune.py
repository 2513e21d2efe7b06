"""`prune` of containers, images, networks, volumes, and of all that is unused."""

from __future__ import annotations

import functools
from typing import Any

from cove.cli import format as fmt
from cove.cli.client import filters
from cove.cli.command import Command, Context, confirm
from cove.cli.errors import CliError, DaemonError
from cove.cli.flags import Flag, Values, filters_flag, switch

WARNINGS = {
    "container": "WARNING! This will remove all stopped containers.",
    "image": "WARNING! This will remove all dangling images.",
    "image -a": "WARNING! This will remove all images without at least one container associated to them.",
    "network": "WARNING! This will remove all custom networks not used by at least one container.",
    "volume": "WARNING! This will remove anonymous local volumes not used by at least one container.",
    "volume -a": "WARNING! This will remove all local volumes not used by at least one container.",
}
TITLES = {
    "container": "Deleted Containers:",
    "image": "Deleted Images:",
    "network": "Deleted Networks:",
    "volume": "Deleted Volumes:",
}
FIELDS = {
    "container": "ContainersDeleted",
    "image": "ImagesDeleted",
    "network": "NetworksDeleted",
    "volume": "VolumesDeleted",
}


def _prune(context: Context, kind: str, given: list[str], *, everything: bool) -> tuple[str, int]:
    """Prune one kind; what to print, and the bytes that are free again."""
    wanted = with_configured(given)
    if kind == "image":
        wanted.append(f"dangling={'false' if everything else 'true'}")
    elif kind == "volume" and everything:
        wanted.append("all=true")
    answer: dict[str, Any] = context.engine.json("POST", f"/{kind}s/prune", {"filters": filters(wanted)})
    deleted = answer.get(FIELDS[kind]) or ()
    lines = [_line(item) for item in deleted]
    text = "".join(f"{line}\n" for line in [TITLES[kind], *lines, ""]) if lines else ""
    return text, int(answer.get("SpaceReclaimed") or 0)


def with_configured(given: list[str]) -> list[str]:
    """`given` and what the user's docker configuration adds to every prune."""
    from cove.cli.docker_config import DockerConfig

    wanted = list(given)
    for item in DockerConfig.load().texts("pruneFilters"):
        key, equals, value = item.partition("=")
        opposite = {"label": "label!", "label!": "label"}.get(key)
        if equals and f"{opposite}={value}" not in wanted:
            wanted.append(item)
    return wanted


def _line(item: Any) -> str:
    if isinstance(item, str):
        return item
    return f"untagged: {item['Untagged']}" if item.get("Untagged") else f"deleted: {item['Deleted']}"


def prune(kind: str, context: Context, values: Values) -> int:
    """`cove KIND prune`"""
    everything = kind in ("image", "volume") and values["all"]
    if kind == "volume" and everything and (given := [one for one in values["filter"] if one.startswith("all=")]):
        raise CliError(f"conflicting options: cannot specify both --all and --filter {given[0]}")
    warning = WARNINGS[f"{kind} -a" if everything else kind]
    if not values["force"] and not confirm(f"{warning}\nAre you sure you want to continue?"):
        return 0
    text, reclaimed = _prune(context, kind, values["filter"], everything=everything)
    print(text, end="")
    if kind != "network":
        print(f"Total reclaimed space: {fmt.human_size(reclaimed)}")
    return 0


def system_prune(context: Context, values: Values) -> int:
    """`cove system prune`"""
    everything, volumes = values["all"], values["volumes"]
    if volumes and any(item.startswith("until=") for item in values["filter"]):
        raise CliError('ERROR: The "until" filter is not supported with "--volumes"')
    what = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        what.append("all anonymous volumes not used by at least one container")
    images = "all images without at least one container associated to them" if everything else "all dangling images"
    what += [images, "unused build cache" if not everything else "all build cache"]
    warning = "WARNING! This will remove:\n" + "".join(f"  - {item}\n" for item in what)
    if shown := _shown_filters(with_configured(values["filter"])):
        warning += "\n  Items to be pruned will be filtered with:\n" + "".join(f"  - {item}\n" for item in shown)
    if not values["force"] and not confirm(f"{warning}\nAre you sure you want to continue?"):
        return 0
    total = 0
    for kind in ("container", "network", *(["volume"] if volumes else []), "image"):
        text, reclaimed = _prune(context, kind, values["filter"], everything=everything and kind == "image")
        print(text, end="")
        total += reclaimed
    total += _prune_builds(context, values)
    print(f"Total reclaimed space: {fmt.human_size(total)}")
    return 0


def _shown_filters(given: list[str]) -> list[str]:
    """The filters that docker tells of before it asks, in their natural order: a2 before a10."""
    import re

    pairs = (item.partition("=") for item in given)
    trimmed = {f"{key.strip().lower()}={value.strip()}" for key, _, value in pairs}
    shown = [item for item in trimmed if item.partition("=")[0] in ("label", "label!", "until")]
    return sorted(
        shown,
        key=lambda item: [(len(part), part) if part.isdigit() else (0, part) for part in re.findall(r"\d+|\D", item)],
    )


def _prune_builds(context: Context, values: Values) -> int:
    try:
        answer = context.engine.json(
            "POST", "/build/prune", {"all": values["all"], "filters": filters(values["filter"])}
        )
    except DaemonError as error:
        if error.code == 404:
            return 0  # an engine that keeps no build cache
        raise
    caches = answer.get("CachesDeleted") or ()
    if caches:
        print("Deleted build cache objects:\n" + "".join(f"{item}\n" for item in caches))
    return int(answer.get("SpaceReclaimed") or 0)


_FORCE = switch("force", "f", "Do not prompt for confirmation")


def _filter(example: str) -> Flag:
    return filters_flag("", f'Provide filter values (e.g. "{example}")')


def _command(kind: str, short: str, *more: Flag, example: str = "until=<timestamp>") -> Command:
    return Command(functools.partial(prune, kind), short, "", (_FORCE, _filter(example), *more), most=0)


COMMANDS = {
    "container prune": _command("container", "Remove all stopped containers"),
    "image prune": _command(
        "image", "Remove unused images", switch("all", "a", "Remove all unused images, not just dangling ones")
    ),
    "network prune": _command("network", "Remove all unused networks"),
    "volume prune": _command(
        "volume",
        "Remove unused local volumes",
        switch("all", "a", "Remove all unused volumes, not just anonymous ones"),
        example="label=<label>",
    ),
    "system prune": Command(
        system_prune,
        "Remove unused data",
        "",
        (
            _FORCE,
            _filter("label=<key>=<value>"),
            switch("all", "a", "Remove all unused images not just dangling ones"),
            switch("volumes", "", "Prune anonymous volumes"),
        ),
        most=0,
    ),
}
