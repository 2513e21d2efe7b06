import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from coved.errors import InvalidParameter
from coved.events import Event, Events
from coved.filters import Filters


async def take(stream: AsyncIterator[Event], count: int) -> list[str]:
    events = []
    async with asyncio.timeout(30):
        while len(events) < count:
            event = await anext(stream)
            events.append(f"{event['Type']} {event['Action']} {event['Actor']['ID']}")
    return events


async def drain(stream: AsyncIterator[Event]) -> list[str]:
    async with asyncio.timeout(30):
        return [event["Actor"]["ID"] async for event in stream]


def test_events_have_dockers_form() -> None:
    event = Events().publish("container", "start", "abc", {"image": "busybox", "name": "web"})
    assert event["status"] == event["Action"] == "start"
    assert event["id"] == event["Actor"]["ID"] == "abc"
    assert event["from"] == "busybox"
    assert (event["Type"], event["scope"]) == ("container", "local")
    assert event["Actor"]["Attributes"] == {"image": "busybox", "name": "web"}
    assert abs(event["timeNano"] - time.time_ns()) < 10**9 and event["time"] == event["timeNano"] // 10**9


def test_networks_have_no_legacy_fields() -> None:
    assert "status" not in Events().publish("network", "create", "abc")


def test_a_subscriber_sees_what_comes_after_it_in_order() -> None:
    async def main() -> None:
        events = Events()
        events.publish("image", "load", "before")
        stream = events.subscribe()
        for number in range(3):
            events.publish("image", "load", str(number))
        assert await take(stream, 3) == ["image load 0", "image load 1", "image load 2"]

    asyncio.run(main())


def test_since_gives_the_past_and_goes_on() -> None:
    async def main() -> None:
        events = Events()
        events.publish("image", "load", "early")
        middle = events.publish("image", "load", "middle")
        stream = events.subscribe(since_ns=middle["timeNano"])
        events.publish("image", "load", "late")
        assert await take(stream, 2) == ["image load middle", "image load late"]

    asyncio.run(main())


def test_until_ends_the_stream() -> None:
    async def main() -> None:
        events = Events()
        events.publish("image", "load", "a")
        assert await drain(events.subscribe(since_ns=0, until_ns=time.time_ns())) == ["a"]
        soon = events.subscribe(since_ns=time.time_ns(), until_ns=time.time_ns() + 50_000_000)
        events.publish("image", "load", "b")
        assert await drain(soon) == ["b"]
        assert events.subscriber_count == 0

    asyncio.run(main())


def test_what_was_told_before_the_clock_was_set_back_ends_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        events, now = Events(), time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: now() + 3600 * 10**9)
        events.publish("container", "start", "an hour ahead")
        monkeypatch.setattr(time, "time_ns", now)
        events.publish("container", "start", "now")
        assert await drain(events.subscribe(since_ns=0, until_ns=now())) == ["now"]

    asyncio.run(main())


def test_until_alone_gives_the_past_as_dockerd_does() -> None:
    async def main() -> None:
        events = Events()
        events.publish("image", "load", "a")
        soon = events.subscribe(until_ns=time.time_ns() + 50_000_000)
        events.publish("image", "load", "b")
        assert await drain(soon) == ["a", "b"]

    asyncio.run(main())


def test_a_prune_has_no_id_and_no_image() -> None:
    event = Events().publish("container", "prune", "", {"reclaimed": "0"})
    assert event["status"] == "prune"
    assert "id" not in event
    assert "from" not in event


def test_a_subscriber_that_sleeps_loses_the_oldest_and_costs_no_memory() -> None:
    async def main() -> None:
        events = Events()
        stream = events.subscribe()
        for number in range(10_000):
            events.publish("image", "load", str(number))
        (first,) = await take(stream, 1)
        assert first == f"image load {10_000 - 4096}"

    asyncio.run(main())


CONTAINER = ("container", "start", "abc123", {"image": "busybox:1", "name": "web", "tier": "front"})
EXEC = ("container", "exec_start: sh", "abc123", {"image": "busybox:1", "name": "web"})


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"type": ["container"]}, True),
        ({"type": ["image"]}, False),
        ({"type": ["image", "container"]}, True),
        ({"event": ["start"]}, True),
        ({"event": ["die"]}, False),
        ({"container": ["web"]}, True),
        ({"container": ["abc"]}, True),
        ({"container": ["other"]}, False),
        ({"container": ["we"]}, True),
        ({"container": ["other", "web"]}, True),
        ({"container": [""]}, False),
        ({"image": ["busybox"]}, True),
        ({"image": ["busybox:1"]}, True),
        ({"image": ["alpine"]}, False),
        ({"image": ["abc123"]}, True),
        ({"label": ["tier=front"]}, True),
        ({"label": ["tier"]}, True),
        ({"label": ["tier=back"]}, False),
        ({"network": ["web"]}, False),
        ({"scope": ["swarm"]}, False),
        ({"type": ["container"], "event": ["stop"]}, False),
    ],
)
def test_filters(filters: dict[str, list[str]], expected: bool) -> None:
    async def main() -> None:
        events = Events()
        events.publish(*CONTAINER)
        found = await drain(events.subscribe(Filters(filters), 0, time.time_ns()))
        assert found == (["abc123"] if expected else [])

    asyncio.run(main())


def test_exec_events_match_without_their_command() -> None:
    async def main() -> None:
        events = Events()
        events.publish(*EXEC)
        assert await drain(events.subscribe(Filters({"event": ["exec_start"]}), 0, time.time_ns())) == ["abc123"]

    asyncio.run(main())


def test_unknown_filters_are_refused_at_once() -> None:
    with pytest.raises(InvalidParameter, match="invalid filter 'colour'"):
        Events().subscribe(Filters({"colour": ["red"]}))
