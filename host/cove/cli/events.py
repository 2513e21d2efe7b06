"""`events`: what happens on the engine, as it happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cove.cli.client import filters
from cove.cli.command import Command, Context
from cove.cli.errors import CliError
from cove.cli.flags import Values, filters_flag, format_flag, text
from cove.cli.timestamp import timestamp

Event = dict[str, Any]
BAD_FORMAT = 64
"""Docker's exit status for a template that cannot be used."""


_OWN = {"Status": "status", "ID": "id", "From": "from", "Scope": "scope", "Time": "time", "TimeNano": "timeNano"}
_NUMBERS = ("Time", "TimeNano")
_SHARED = ("Type", "Action", "Actor")


class _Message(dict[str, Any]):
    """An event with the names that it has in a template; as JSON it is what the engine sent."""

    def __contains__(self, name: object) -> bool:
        return name in _OWN or name in _SHARED

    def __getitem__(self, name: str) -> Any:
        from cove.cli.gotemplate import GoMap

        value = self.get(_OWN.get(name, name))
        if name == "Actor":
            actor = value or {}
            return {"ID": actor.get("ID", ""), "Attributes": GoMap(actor.get("Attributes") or {})}
        return (0 if name in _NUMBERS else "") if value is None else value


def event_line(event: Event) -> str:
    """`2026-11-24T20:10:21.123456789Z container start <id> (image=busybox, name=c1)`"""
    nanoseconds = event.get("timeNano") or event.get("time", 0) * 10**9
    stamp = f"{local_rfc3339(nanoseconds)} " if nanoseconds else ""
    actor = event.get("Actor") or {}
    attributes = ", ".join(f"{key}={value}" for key, value in sorted((actor.get("Attributes") or {}).items()))
    line = f"{stamp}{event['Type']} {event['Action']} {actor.get('ID', '')}"
    return f"{line} ({attributes})" if attributes else line


def local_rfc3339(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    moment = time.localtime(seconds)
    zone = time.strftime("%z", moment)
    offset = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{rest:09d}{offset}"


def formatter(form: str) -> Callable[[Event], str]:
    """What makes a line of an event. Raises `CliError` for a template that can be used for none."""
    if not form:
        return event_line
    from cove.cli.gotemplate import Template, TemplateError, to_json

    if form == "json":
        return to_json

    def missing(name: str) -> str:
        return f"can't evaluate field {name} in type *events.Message"

    try:
        template = Template(form)
        template.render(_Message(), missing)  # as docker does: a mistake is told before the first event
    except TemplateError as error:
        raise CliError(f"Error parsing format: {error.message}", BAD_FORMAT) from error
    return lambda event: template.render(_Message(event), missing)


def events(context: Context, values: Values) -> int:
    """`cove events`: prints until the engine ends the stream or Ctrl-C."""
    line = formatter(values["format"])
    query = {
        "since": timestamp(values["since"]) if values["since"] else None,
        "until": timestamp(values["until"]) if values["until"] else None,
        "filters": filters(values["filter"]),
    }
    for event in context.engine.request("GET", "/events", query).json_lines():
        print(line(event), flush=True)
    return 0


COMMANDS = {
    "events": Command(
        events,
        "Get real time events from the server",
        "",
        (
            filters_flag(),
            format_flag(tables=False),
            text("since", "", "Show all events created since timestamp"),
            text("until", "", "Stream events until this timestamp"),
        ),
        most=0,
    ),
}
