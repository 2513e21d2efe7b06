"""Progress as it is shown: a few plain lines, or bars on a terminal."""

from __future__ import annotations

import io
import os
import pty

import pytest
from cove import progress
from cove.progress import Event, renderer


def plain(events: list[Event], title: str = "") -> list[str]:
    stream = io.StringIO()
    with renderer(title, stream) as report:
        for event in events:
            report(event)
    return stream.getvalue().splitlines()


def test_nothing_is_said_when_nothing_happens() -> None:
    assert plain([], "Cove is starting") == []


def test_each_step_is_a_line_after_the_title() -> None:
    lines = plain(
        [
            Event("boot", "waiting"),
            Event("stop", "asking"),
            Event("stop", "killing"),
            Event("ready", "in 3 s", detail="why"),
        ],
        "Cove is starting",
    )
    assert lines == [
        "Cove is starting",
        "  boot     waiting",
        "  stop     asking",
        "  stop     killing",
        "  ready    in 3 s",
        "           (why)",
    ]


def test_bytes_are_told_at_the_start_now_and_then_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with renderer("", stream) as report:
        for done in range(0, 101):
            now[0] += 0.2  # 20 s in all
            report(Event("image", "packages", done * 1_000_000, 100_000_000))
        report(Event("image", "packages", 100_000_000, 100_000_000))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "  image    packages  100 MB"
    assert lines[-1] == "  image    packages  100/100 MB"
    assert lines.count(lines[-1]) == 1
    assert 4 <= len(lines) <= 6


def test_a_step_that_is_done_at_once_is_told_once() -> None:
    steps = [("index", "signed index", 35_000), ("download", "9 packages", 30_000_000), ("setup", "configuring", 0)]
    events = [Event(phase, text, done, total) for phase, text, total in steps for done in (0, total // 2, total, total)]
    assert plain(events) == [
        "  index    signed index  35 kB",
        "  download 9 packages  30 MB",
        "  setup    configuring",
    ]
    assert plain([Event("index", "x", 35_000, 35_000)]) == ["  index    x  35/35 kB"]


def test_an_unknown_total_is_left_out() -> None:
    assert plain([Event("image", "index", 5_000_000)]) == ["  image    index  5 MB"]


def test_events_cross_a_socket_unchanged() -> None:
    for event in (Event("boot", "x"), Event("image", "y", 1, 2, "z")):
        assert Event.from_json(event.to_json()) == event
    with pytest.raises(KeyError):
        Event.from_json({"phase": "boot"})


def terminal(events: list[Event], title: str, fail: bool = False) -> str:
    """What a terminal is sent."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as stream:
        try:
            with renderer(title, stream) as report:
                for event in events:
                    report(event)
                if fail:
                    raise RuntimeError("in the middle")
        except RuntimeError:
            assert fail
        stream.flush()
        os.set_blocking(master, False)
        sent = b""
        try:
            while data := os.read(master, 1 << 16):
                sent += data
        except BlockingIOError:
            pass
    os.close(master)
    return sent.decode()


def test_on_a_terminal_there_are_bars_and_the_last_state_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    sent = terminal(
        [
            Event("image", "122 [packages]", 0, 50_000_000),
            Event("image", "122 [packages]", 50_000_000, 50_000_000),
            Event("boot", "waiting", detail="[it] takes a while"),
        ],
        "Cove is starting",
    )
    assert "Cove is starting" in sent
    assert "122 [packages]" in sent  # brackets are text, not markup
    assert "([it] takes a while)" in sent
    assert "50.0/50.0 MB" in sent
    assert sent.rindex("waiting") > sent.rindex("50.0/50.0 MB")


def test_a_terminal_is_left_as_it_was_when_the_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    sent = terminal([Event("boot", "waiting")], "Cove", fail=True)
    assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l")  # the cursor is back
    assert terminal([], "Cove") == ""
