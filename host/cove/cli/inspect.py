"""`inspect` for every kind of object, as JSON or through a template."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

from cove.cli.client import quote
from cove.cli.command import Command, Context
from cove.cli.errors import CliError, DaemonError
from cove.cli.flags import Flag, Values, format_flag, switch, text

PATHS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}
"""What an object of each kind answers to; an object of no given kind is looked for in this order, as docker does."""

TYPES = ("config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume")


def _get(context: Context, kinds: Sequence[str], name: str, *, size: bool, platform: str | None) -> Any:
    for kind in kinds:
        query = {"size": size and kind == "container", "platform": platform}
        try:
            asked = name
            if kind == "image" and "~" in name:
                from cove.cli.earlier import earlier

                asked = earlier(context.engine, name)
            return context.engine.json("GET", PATHS[kind].format(quote(asked)), query)
        except DaemonError as error:
            if len(kinds) == 1 or error.code not in (404, 400):
                raise
    raise CliError(f"Error: No such object: {name}")


def show(
    context: Context,
    kinds: Sequence[str],
    names: Sequence[str],
    form: str,
    *,
    size: bool = False,
    platform: str | None = None,
) -> int:
    """Print what is found of `names`, then fail with what was not."""
    from cove.cli.gotemplate import Template, TemplateError

    template = None
    if form not in ("", "json"):
        try:
            template = Template(form)
        except TemplateError as error:
            raise CliError(f"template parsing error: {error.message}", 64) from error
    found, failures = [], []
    for name in names:
        try:
            found.append(_get(context, kinds, name, size=size, platform=platform))
        except CliError as error:
            failures.append(error.message)
            # Docker inspects what it can; a template that has nothing to work on prints an empty line.
    if template is None:
        sys.stdout.write(to_text(found, compact=form == "json"))
    else:
        lines = []
        for item in found:
            try:
                lines.append(template.render(item, lambda name: f'map has no entry for key "{name}"'))
            except TemplateError as error:
                failures.append(f"template parsing error: {error.message}")
                break
        sys.stdout.write("".join(line + "\n" for line in lines) or "\n")
    sys.stdout.flush()
    if failures:
        raise CliError("\n".join(failures))
    return 0


def to_text(items: list[Any], *, compact: bool) -> str:
    """A JSON array as docker prints it: four blanks of indentation, empty objects and arrays on one line."""
    import json

    from cove.cli.gotemplate import to_json

    if compact:
        return to_json(items) + "\n"
    return json.dumps(items, indent=4, ensure_ascii=False) + "\n"


def inspect(context: Context, values: Values) -> int:
    """`cove inspect`"""
    kind = values["type"]
    if kind and kind not in TYPES:
        known = ", ".join(f'"{name}"' for name in TYPES)
        raise CliError(f'unknown type: "{kind}": must be one of {known}')
    if values.changed("type") and not kind:
        raise CliError("type is empty")
    if kind and kind not in PATHS:
        raise CliError(f"Cove has no objects of type {kind}")
    kinds = [kind] if kind else list(PATHS)
    return show(context, kinds, values.args, values["format"], size=values["size"])


def _inspect_one_kind(kind: str, context: Context, values: Values) -> int:
    size = kind == "container" and values["size"]
    platform = None
    if kind == "image":
        from cove.cli.platforms import parameter

        platform = parameter(values["platform"])
    return show(context, [kind], values.args, values["format"], size=size, platform=platform)


_FORMAT = format_flag("f", tables=False)
_SIZE = switch("size", "s", "Display total file sizes if the type is container")


def _one_kind(kind: str, short: str, *more: Flag) -> Command:
    usage = f"{kind.upper()} [{kind.upper()}...]"
    return Command(functools.partial(_inspect_one_kind, kind), short, usage, (_FORMAT, *more), least=1)


COMMANDS = {
    "inspect": Command(
        inspect,
        "Return low-level information on Docker objects",
        "NAME|ID [NAME|ID...]",
        (_FORMAT, _SIZE, text("type", "", "Only inspect objects of the given type")),
        least=1,
    ),
    "container inspect": _one_kind(
        "container",
        "Display detailed information on one or more containers",
        switch("size", "s", "Display total file sizes"),
    ),
    "image inspect": _one_kind(
        "image",
        "Display detailed information on one or more images",
        text(
            "platform",
            "",
            "Inspect a specific platform of the multi-platform image.\n"
            "If the image or the server is not multi-platform capable, the command will error out if the platform does not"
            " match.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
        ),
    ),
    "network inspect": _one_kind(
        "network",
        "Display detailed information on one or more networks",
        switch("verbose", "v", "Verbose output for diagnostics"),
    ),
    "volume inspect": _one_kind("volume", "Display detailed information on one or more volumes"),
}
