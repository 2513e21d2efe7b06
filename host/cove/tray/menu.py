"""From what is known of a machine to what the tray shows: an icon, a line, a menu. Nothing here knows of a desktop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cove.tray.containers import Container
from cove.tray.words import Say, english

RUNNING, STOPPED, SUSPENDED, BUSY, TROUBLE = "running", "stopped", "suspended", "busy", "trouble"
ICONS = (RUNNING, STOPPED, SUSPENDED, BUSY, TROUBLE)
START, STOP, SUSPEND, DASHBOARD, QUIT = "start", "stop", "suspend", "dashboard", "quit"
UNDER_WAY = {START: "starting", STOP: "stopping", SUSPEND: "suspending"}
MOST_CONTAINERS = 8
MOST_LETTERS = 60


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the menu, which does something, opens a link, has a menu of its own, or only says something; without text it is a
    separator."""

    text: str = ""
    action: str = ""
    link: str = ""
    more: tuple[Entry, ...] = ()
    enabled: bool = True

    @property
    def is_separator(self) -> bool:
        return not self.text

    @property
    def can_be_chosen(self) -> bool:
        return self.enabled and bool(self.action or self.link or self.more)


@dataclass(frozen=True, slots=True)
class Look:
    """`tip` is what the icon says of itself."""

    icon: str
    tip: str
    menu: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """Of a machine.

    Args:
        status: as `cove machine status --json`; empty before anybody has told.
        progress: the step that is being done.
        under_way: the action that was chosen and has not come to its end.
        containers: None when nobody has told of them.
    """

    name: str
    status: Mapping[str, Any]
    progress: str = ""
    under_way: str = ""
    containers: Sequence[Container] | None = None

    @property
    def state(self) -> str:
        """A word for people."""
        return UNDER_WAY.get(self.under_way) or str(self.status.get("state", "unknown"))

    @property
    def runs(self) -> bool:
        return self.status.get("state") == "running"


def look(known: Known, say: Say = english) -> Look:
    icon, state = _icon(known), say(_state(known))
    said = say("Machine {name}: {state}", name=known.name, state=state)
    detail = _detail(known)
    # They lead somewhere because what cannot be chosen is shown so pale that it is hard to read.
    lines = [Entry(line, DASHBOARD) for line in (said, _short(detail)) if line]
    actions = _actions(known, say)
    containers = _containers(known, say)
    menu = (
        *lines, Entry(), *actions, Entry(), Entry(say("Open dashboard"), DASHBOARD), Entry(),
        *([*containers, Entry()] if containers else []), Entry(say("Quit (the machine stays as it is)"), QUIT),
    )  # fmt: skip
    return Look(icon, say("Cove: machine {name}: {state}", name=known.name, state=state), menu)


def _icon(known: Known) -> str:
    state = known.state
    if known.under_way or state in ("starting", "stopping", "suspending", "resuming"):
        return BUSY
    if _trouble(known) or state not in ("running", "suspended", "stopped"):
        return TROUBLE if known.status else BUSY
    return {"running": RUNNING, "suspended": SUSPENDED}.get(state, STOPPED)


def _state(known: Known) -> str:
    if not known.status:
        return "…"
    if known.status.get("missing") and not known.under_way:
        return "not made yet"
    return known.state


def _trouble(known: Known) -> str:
    """What is wrong, in words; "" for nothing."""
    status = known.status
    if status.get("trouble"):
        return str(status["trouble"])
    crash = status.get("crash")
    return str(crash["how"]) if isinstance(crash, Mapping) and "how" in crash else ""


def _detail(known: Known) -> str:
    return known.progress if _icon(known) == BUSY else _trouble(known)


def _actions(known: Known, say: Say) -> list[Entry]:
    state, free = known.status.get("state"), not known.under_way
    return [
        Entry(
            say("Resume" if state == "suspended" else "Start"),
            START,
            enabled=free and state in ("stopped", "suspended"),
        ),
        Entry(say("Stop"), STOP, enabled=free and state not in (None, "stopped", "stopping")),
        Entry(say("Suspend"), SUSPEND, enabled=free and state == "running"),
    ]


def _containers(known: Known, say: Say) -> list[Entry]:
    if not known.runs or known.under_way:
        return []
    if known.containers is None:
        return [Entry(say("Containers: …"))]
    if not known.containers:
        return [Entry(say("No containers"))]
    shown = [_container(each, say) for each in known.containers[:MOST_CONTAINERS]]
    hidden = len(known.containers) - len(shown)
    return [*shown, *([Entry(say("{count} more…", count=hidden), DASHBOARD)] if hidden else [])]


def _container(container: Container, say: Say) -> Entry:
    text = f"{_short(container.name)}  ({say(container.state)})"
    if not container.links:
        return Entry(text, DASHBOARD)
    if len(container.links) == 1:
        return Entry(f"{text}  {_without_scheme(container.links[0])}", link=container.links[0])
    return Entry(text, more=tuple(Entry(_without_scheme(link), link=link) for link in container.links))


def _without_scheme(link: str) -> str:
    return link.partition("://")[2]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MOST_LETTERS else f"{line[: MOST_LETTERS - 1]}…"
