"""Progress of a build, drawn from messages like those that buildx 0.13 was seen to get from dockerd 26.1, with the words
that it was seen to print for them.
"""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from cove.build.display import choose
from cove.build.plain import Plain
from cove.build.rawjson import RawJson
from cove.build.status import SECOND, Group, Log, Part, Source, Status, Vertex, Warn
from cove.build.trace import Interval, amount, merged
from cove.build.tty import Terminal, fitting

S = SECOND
T0 = 1_764_122_536 * S


def step(name: str, digest: str = "", **values: object) -> Vertex:
    return Vertex(digest or f"sha256:{name}", name, **values)  # type: ignore[arg-type]


def plain(messages: Iterable[Status], *, at_once: bool = False) -> str:
    """What the plain display prints when it looks after each message, or only at the end."""
    out = io.BytesIO()
    display = Plain(out, 'building with "default" instance using docker driver')
    for message in messages:
        display.update(message)
        if not at_once:
            display.refresh()
    display.done()
    return out.getvalue().decode()


LOAD = step("[internal] load build definition from Dockerfile", started=T0)
RUN = step("[2/3] RUN make", started=T0 + S)
MESSAGES = [
    Status([replace(LOAD, started=None)]),
    Status([LOAD]),
    Status(parts=[Part("transferring dockerfile:", LOAD.digest, "transferring", 0, 0, T0, T0)]),
    Status(parts=[Part("transferring dockerfile:", LOAD.digest, "transferring", 310, 0, T0 + 1, T0, T0 + 1)]),
    Status([replace(LOAD, completed=T0 + S // 20)]),
    Status([step("[1/3] FROM busybox", started=T0 + S // 10, completed=T0 + S // 10, cached=True)]),
    Status([RUN]),
    Status(logs=[Log(RUN.digest, b"hello\n", T0 + S + S // 5)]),
    Status(logs=[Log(RUN.digest, b"par", T0 + 12 * S)]),
    Status(logs=[Log(RUN.digest, b"tial\nlast\n", T0 + 13 * S)]),
    Status([replace(RUN, completed=T0 + 14 * S)]),
]
TOLD = """\
#0 building with "default" instance using docker driver

#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 310B done
#1 DONE 0.1s

#2 [1/3] FROM busybox
#2 CACHED

#3 [2/3] RUN make
#3 0.200 hello
#3 11.00 partial
#3 12.00 last
#3 DONE 13.0s
"""


@pytest.mark.parametrize("at_once", [False, True])
def test_plain_progress_is_buildxs(at_once: bool) -> None:
    told = plain(MESSAGES, at_once=at_once)
    assert told.replace("#1 transferring dockerfile:\n", "") == TOLD


def test_a_failed_step_tells_the_end_of_its_output_again() -> None:
    lines = b"".join(b"line %d\n" % number for number in range(12))
    failed = replace(
        RUN, completed=T0 + 2 * S, error='process "/bin/sh -c make" did not complete successfully: exit code: 3'
    )
    told = plain([Status([RUN]), Status(logs=[Log(RUN.digest, lines + b"cut", T0 + S)]), Status([failed])])
    assert told.endswith(
        "#1 0.000 line 11\n#1 0.000 cut\n"
        '#1 ERROR: process "/bin/sh -c make" did not complete successfully: exit code: 3\n'
        "------\n > [2/3] RUN make:\n"
        + "".join(f"0.000 line {number}\n" for number in range(2, 12))
        + "0.000 cut\n------\n"
    )


def test_a_step_that_was_given_up_is_canceled_and_no_failure() -> None:
    canceled = replace(RUN, completed=T0 + 2 * S, error="process did not complete: context canceled")
    assert plain([Status([canceled])]).endswith("#1 [2/3] RUN make\n#1 CANCELED\n")


def test_one_step_has_the_word_while_others_work() -> None:
    other = step("[other 1/1] RUN sleep", started=T0)
    told = plain(
        [
            Status([RUN]),
            Status(logs=[Log(RUN.digest, b"a\nb", T0 + 2 * S)]),
            Status([other]),
            Status(logs=[Log(other.digest, b"x\n", T0 + 2 * S)]),
            Status([replace(other, completed=T0 + 3 * S)]),
            Status(logs=[Log(RUN.digest, b"c\n", T0 + 3 * S)]),
            Status([replace(RUN, completed=T0 + 4 * S)]),
        ]
    )
    assert told.split("driver\n\n")[1] == (
        "#1 [2/3] RUN make\n#1 1.000 a\n#1 1.000 b\n#1 ...\n\n"
        "#2 [other 1/1] RUN sleep\n#2 2.000 x\n#2 DONE 3.0s\n\n"
        "#1 [2/3] RUN make\n#1 1.000 bc\n#1 DONE 3.0s\n"
    )


def test_a_transfer_is_told_of_again_when_it_has_come_far_enough() -> None:
    def part(current: int, after: float, completed: int | None = None) -> Status:
        moment = T0 + S + int(after * S)
        return Status(parts=[Part("sha256:aa", RUN.digest, "", current, 10**8, moment, T0 + S, completed)])

    told = plain([Status([RUN]), part(10**6, 0), part(2 * 10**6, 1), part(10**7, 2), part(10**7 + 1, 7.5)])
    assert re.findall(r"#1 sha256.*", told) == [
        "#1 sha256:aa 1.00MB / 100.00MB",
        "#1 sha256:aa 10.00MB / 100.00MB 2.0s",
        "#1 sha256:aa 10.00MB / 100.00MB 7.5s",
    ]


def test_a_warning_is_told_with_its_step() -> None:
    warned = Status(warnings=[Warn(LOAD.digest, "LegacyKeyValueFormat: ...")])
    told = plain([Status([LOAD]), warned, Status([replace(LOAD, completed=T0)])])
    assert "#1 WARN: LegacyKeyValueFormat: ...\n" in told


def test_steps_of_a_group_are_one_and_are_shown_when_one_counts() -> None:
    group = Group("g", "[2/2] COPY --link a b")
    weak = step("merge", started=T0, completed=T0, group=replace(group, weak=True))
    strong = step("copy", started=T0 + S, group=group)
    assert "COPY" not in plain([Status([weak])])
    told = plain([Status([weak]), Status([strong]), Status([replace(strong, completed=T0 + 2 * S)])])
    assert told.endswith("#1 [2/2] COPY --link a b\n#1 DONE 1.0s\n")


def test_intervals_that_touch_are_one() -> None:
    assert merged([Interval(5, 7), Interval(1, 3), Interval(2, 4), Interval(9)]) == [
        Interval(1, 4),
        Interval(5, 7),
        Interval(9),
    ]
    assert merged([Interval(1), Interval(2, 3)]) == [Interval(1)]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1.00kB"),
        (308_064, "308.06kB"),
        (12_345_678, "12.35MB"),
        (5 * 10**12, "5.00TB"),
    ],
)
def test_amounts(count: int, text: str) -> None:
    assert amount(count) == text


def terminal(rows: int, columns: int) -> tuple[Terminal, Callable[[], str]]:
    out = io.BytesIO()

    def taken() -> str:
        text = out.getvalue().decode()
        out.seek(0)
        out.truncate()
        return text

    return Terminal(out, lambda: (rows, columns), "docker:default"), taken


def test_the_view_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    now = time.time_ns()
    display, taken = terminal(24, 60)
    run = step("[2/3] RUN make", started=now - 2 * S)
    display.update(Status([step("[1/3] FROM busybox", started=now - 3 * S, completed=now - 3 * S, cached=True), run]))
    display.update(Status(logs=[Log(run.digest, b"one\r\x1b[31mtwo\x1b[0m\nthree", now)]))
    display.refresh()
    first = taken()
    assert first.startswith("\x1b[?25l\r[+] Building 0.0s (1/2)")
    assert first.split("\n")[0].endswith(" docker:default")
    assert first.split("\n")[1:3] == [
        "\x1b[34m => CACHED [1/3] FROM busybox                          0.0s",
        "\x1b[0m => [2/3] RUN make                                     0.0s",
    ]
    assert [line.rstrip() for line in first.split("\n")[3:]] == [
        "\x1b[2m => => # two",
        "\x1b[0m\x1b[2m => => # three",
        "\x1b[0m\x1b[?25h",
    ]
    display.update(Status([replace(run, completed=now, error="exit code: 1")]))
    display.done()
    last = taken()
    assert last.startswith("\x1b[?25l\x1b[5A\r[+] Building 0.0s (2/2) FINISHED")
    assert "\x1b[31m => ERROR [2/3] RUN make                               2.0s\n" in last
    assert last.endswith(
        "\x1b[2A\r\x1b[?25h------\n > [2/3] RUN make:\n2.000 one\r\x1b[31mtwo\x1b[0m\n2.000 three\n------\n"
    )


def test_no_line_of_the_view_is_wider_than_the_terminal_nor_moves_its_cursor() -> None:
    display, taken = terminal(24, 40)
    evil = step("\x1b[2J\r\n\x9b31m" + "名" * 60, started=T0)
    display.update(Status([evil]))
    display.update(Status(logs=[Log(evil.digest, "\x1b]0;title\x07\x1b[9999Aé\x00".encode() + b"\xff\n", T0)]))
    display.refresh()
    text = taken()
    for own in ("\x1b[?25l", "\x1b[?25h", "\x1b[2m", "\x1b[0m"):
        text = text.replace(own, "")
    lines = text.removeprefix("\r").split("\n")
    assert not set(text) & {"\x1b", "\x9b", "\x00", "\x07", "\r"} - {"\r"}
    assert "title" not in text
    assert all(sum(2 if character == "名" else 1 for character in line) <= 40 for line in lines)


def test_a_small_terminal_shows_what_is_at_work() -> None:
    display, taken = terminal(6, 80)
    running = step("[1/9] RUN long", started=T0)
    done = [step(f"done {number}", started=T0, completed=T0) for number in range(9)]
    display.update(Status([running, *done]))
    display.refresh()
    shown = re.findall(r"=> (\S+ \S+)", taken())
    assert len(shown) == 4
    assert shown[0] == "[1/9] RUN"
    assert fitting([], -1) == []


def test_raw_json_is_one_message_a_line() -> None:
    out = io.BytesIO()
    display = RawJson(out)
    display.update(Status([LOAD], [Part("x", LOAD.digest, "", 1, 2, T0 + 120, T0)], [Log(LOAD.digest, b"a\n", T0)]))
    source = Source("Dockerfile", b"FROM x\n")
    display.update(Status(warnings=[Warn(LOAD.digest, "short", ("long",), "https://x", 1, source)]))
    first, second = map(json.loads, out.getvalue().decode().splitlines())
    started = "2025-11-26T02:02:16Z"
    assert first == {
        "vertexes": [{"digest": LOAD.digest, "name": LOAD.name, "started": started}],
        "statuses": [
            {
                "id": "x",
                "vertex": LOAD.digest,
                "total": 2,
                "current": 1,
                "timestamp": "2025-11-26T02:02:16.00000012Z",
                "started": started,
            }
        ],
        "logs": [{"vertex": LOAD.digest, "stream": 1, "data": "YQo=", "timestamp": started}],
    }
    assert second["warnings"][0] == {
        "vertex": LOAD.digest,
        "level": 1,
        "short": "c2hvcnQ=",
        "detail": ["bG9uZw=="],
        "url": "https://x",
        "sourceInfo": {"filename": "Dockerfile", "data": "RlJPTSB4Cg=="},
    }
    assert display.trace.warnings


def test_what_is_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    with pytest.raises(ValueError, match="invalid progress mode foo"):
        choose("foo", out, "default", lambda: None)
    with pytest.raises(ValueError, match="failed to get console: provided file is not a console"):
        choose("tty", out, "default", lambda: None)
    assert isinstance(choose("auto", out, "default", lambda: None), Plain)
    monkeypatch.setenv("BUILDKIT_PROGRESS", "rawjson")
    assert isinstance(choose("auto", out, "default", lambda: None), RawJson)
    assert isinstance(choose("plain", out, "default", lambda: None), Plain)
