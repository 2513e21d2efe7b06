"""What happened, for those who watch (``docker events``, and tools that follow containers).

Events are kept in a bounded ring for ``since`` and pushed to live subscribers. A subscriber that does not keep up loses
the oldest of its events rather than the engine's memory.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

from coved.filters import Filters
from coved.finishing import Closing

# dockerd keeps 256 events; ours are smaller than its, and tools ask for what happened during a reconnect.
HISTORY = 1024
_QUEUE = 4096

FILTERS = frozenset(
    {
        *("config", "container", "daemon", "event", "image", "label", "network", "node"),
        *("plugin", "scope", "secret", "service", "type", "volume"),
    }
)

Event = dict[str, Any]


class _Subscriber:
    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self._queue: deque[Event] = deque(maxlen=_QUEUE)
        self._ready = asyncio.Event()

    def offer(self, event: Event) -> None:
        if matches(event, self._filters):
            self._queue.append(event)
            self._ready.set()

    async def next(self) -> Event:
        while not self._queue:
            self._ready.clear()
            await self._ready.wait()
        return self._queue.popleft()


class Events:
    """The engine's one event bus; to be used from the event loop's thread."""

    def __init__(self) -> None:
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._subscribers: set[_Subscriber] = set()
        self.on_event: Callable[[], object] | None = None
        """Called after each event, for who only wants to know that something happens."""

    @property
    def subscriber_count(self) -> int:
        return len(self._subscribers)

    def publish(self, type: str, action: str, id: str, attributes: Mapping[str, str] | None = None) -> Event:
        """Tells that ``action`` happened to the ``type`` (container, image, volume, network, daemon) named ``id``.

        Returns the event in the form of the Engine API (``EventMessage``).
        """
        now = time.time_ns()
        event: Event = {
            "Type": type,
            "Action": action,
            "Actor": {"ID": id, "Attributes": dict(sorted((attributes or {}).items()))},
            "scope": "local",
            "time": now // 1_000_000_000,
            "timeNano": now,
        }
        # Fields from before API 1.22, which clients still read for containers and images.
        if type in ("container", "image"):
            legacy: Event = {"status": action}
            if id:
                legacy["id"] = id
            if image := event["Actor"]["Attributes"].get("image", "") if type == "container" else "":
                legacy["from"] = image
            event = {**legacy, **event}
        self._history.append(event)
        for subscriber in self._subscribers:
            subscriber.offer(event)
        if self.on_event is not None:
            self.on_event()
        return event

    def subscribe(
        self, filters: Filters | None = None, since_ns: int | None = None, until_ns: int | None = None
    ) -> AsyncIterator[Event]:
        """Events from ``since_ns`` on up to ``until_ns`` (None: for ever), both in Unix nanoseconds.

        Without ``since_ns`` they begin now; with ``until_ns`` alone, with the oldest that is remembered, as dockerd does.
        Whatever is published after this call is seen, however late the first iteration is. Close the iterator when
        done. Raises ``InvalidParameter`` at once for a filter that there is not.
        """
        filters = filters or Filters()
        filters.validate(FILTERS)
        subscriber = _Subscriber(filters)
        if since_ns is not None or until_ns is not None:
            for event in self._history:
                if event["timeNano"] >= (since_ns or 0):
                    subscriber.offer(event)
        if until_ns is None or until_ns > time.time_ns():
            self._subscribers.add(subscriber)
        return Closing(self._follow(subscriber, until_ns), lambda: self._subscribers.discard(subscriber))

    async def _follow(self, subscriber: _Subscriber, until_ns: int | None) -> AsyncGenerator[Event, None]:
        loop = asyncio.get_running_loop()
        deadline = None if until_ns is None else loop.time() + max(0.0, (until_ns - time.time_ns()) / 1e9)
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    event = await subscriber.next()
            except TimeoutError:
                return
            # Those that come after it may be earlier: the clock can have been set back.
            if until_ns is None or event["timeNano"] <= until_ns:
                yield event


def matches(event: Event, filters: Filters) -> bool:
    """Whether an event meets every filter, as dockerd compares them."""
    actor = event["Actor"]
    attributes: dict[str, str] = actor["Attributes"]
    kind: str = event["Type"]

    def named(filter_type: str) -> bool:
        wanted = filters.get(filter_type)
        return not wanted or (kind == filter_type and any(_is_name(actor["ID"], attributes, w) for w in wanted))

    def image() -> bool:
        wanted = filters.get("image")
        name = actor["ID"] if kind == "image" else attributes.get("image", "")
        named = attributes.get("name", "") if kind == "image" else ""
        return not wanted or any(
            value in (actor["ID"], name, _without_tag(name), named, _without_tag(named)) for value in wanted
        )

    actions = filters.get("event")
    return (
        (not filters.get("type") or kind in filters.get("type"))
        and (not actions or any(event["Action"] == a or event["Action"].startswith(f"{a}:") for a in actions))
        and (not filters.get("scope") or event["scope"] in filters.get("scope"))
        and named("container")
        and named("volume")
        and named("network")
        and named("daemon")
        and not any(filters.get(swarm) for swarm in ("config", "node", "plugin", "secret", "service"))
        and image()
        and filters.matches_labels(attributes)
    )


def _is_name(id: str, attributes: Mapping[str, str], wanted: str) -> bool:
    """dockerd takes the beginning of a name for it, as it does with ids."""
    return bool(wanted) and (id.startswith(wanted) or attributes.get("name", "").startswith(wanted))


def _without_tag(name: str) -> str:
    repository, colon, tag = name.rpartition(":")
    return repository if colon and "/" not in tag else name
