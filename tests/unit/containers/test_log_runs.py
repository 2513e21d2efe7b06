"""What the shim writes, read back: by runs, in any cuts, from the end."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from coved.containers.logs.runs import Run, decoder
from coved.runtime.logfile import LogFile
from coved.runtime.logformats import JsonLines, Records

DRIVERS = {"json-file": lambda: JsonLines(b'{"k":"v\\\\ \\u003c"}'), "local": Records}
OUTPUT = [
    ("stdout", b"plain\nlines\n\n"),
    ("stderr", b'tab\t and \\n that is none\nquote"","stream":"stdout\n'),
    ("stdout", b"begin "),
    ("stdout", b"end\n"),
    ("stdout", b"x" * 40000 + b"\n"),
    ("stderr", "€ \u2028 <&>\n".encode()),
    ("stdout", b"\\\n\\\\n\n\\\\\n"),
    ("stdout", b"".join(b"%d\n" % number for number in range(5000))),
    ("stderr", b"no newline"),
]


def written(path: Path, driver: str) -> None:
    log = LogFile(str(path), form=DRIVERS[driver]())
    for stream, data in OUTPUT:
        log.feed(stream, data)
    log.close()


def lines(runs: list[Run]) -> list[tuple[str, bytes]]:
    return [(run.stream, line + run.end) for run in runs for line in run.lines]


def expected(driver: str) -> list[tuple[str, bytes]]:
    result = []
    for stream in ("stdout", "stderr"):
        data = b"".join(data for name, data in OUTPUT if name == stream)
        result += [(stream, data)]
    return result


@pytest.mark.parametrize("driver", list(DRIVERS))
def test_everything_comes_back_in_order(tmp_path: Path, driver: str) -> None:
    written(tmp_path / "log", driver)
    got = lines(decoder(driver).feed((tmp_path / "log").read_bytes()))
    for stream, data in expected(driver):
        assert b"".join(text for name, text in got if name == stream) == data
    assert sum(text.endswith(b"\n") for _, text in got) == sum(data.count(b"\n") for _, data in OUTPUT)


@pytest.mark.parametrize("driver", list(DRIVERS))
def test_any_cut_gives_the_same(tmp_path: Path, driver: str) -> None:
    written(tmp_path / "log", driver)
    data = (tmp_path / "log").read_bytes()
    whole = lines(decoder(driver).feed(data))
    for size in (1, 13, 4096, 65537):
        decode = decoder(driver)
        steps = data if size > 1 else data[:6000]
        got = [one for start in range(0, len(steps), size) for one in lines(decode.feed(steps[start : start + size]))]
        assert got == whole[: len(got)]
        assert len(got) == len(whole) or size == 1


@pytest.mark.parametrize("driver", list(DRIVERS))
def test_the_tail_begins_where_it_shall(tmp_path: Path, driver: str) -> None:
    written(tmp_path / "log", driver)
    data = (tmp_path / "log").read_bytes()
    whole = lines(decoder(driver).feed(data))
    fd = os.open(tmp_path / "log", os.O_RDONLY)
    for count in (0, 1, 2, 3, 100, 5001, 5002, len(whole) - 1, len(whole), len(whole) + 1):
        found, omitted = decoder(driver).seek_tail(fd, count)
        got = lines(decoder(driver).feed(os.read(fd, len(data))))[omitted:]
        assert got == (whole[-count:] if count else [])
        assert found == min(count, len(whole))
    os.close(fd)


@pytest.mark.parametrize("driver", list(DRIVERS))
def test_the_tail_is_right_while_an_entry_is_being_written(tmp_path: Path, driver: str) -> None:
    written(tmp_path / "log", driver)
    data = (tmp_path / "log").read_bytes()
    whole = lines(decoder(driver).feed(data))
    for missing in (1, 3, 5, 12):  # the last entry is "no newline"
        (tmp_path / "log").write_bytes(data[:-missing])
        fd = os.open(tmp_path / "log", os.O_RDONLY)
        decode = decoder(driver)
        found, omitted = decode.seek_tail(fd, 2)
        got = lines(decode.feed(os.read(fd, len(data)))) + lines(decode.feed(data[-missing:]))
        assert (found, got[omitted:]) == (2, whole[-3:])
        os.close(fd)


def test_json_of_dockerd_is_read_line_by_line() -> None:
    entries = [
        {"log": "a\n", "stream": "stdout", "time": "2026-01-01T00:00:00.5Z"},
        {"log": "b\\n\n", "stream": "stderr", "time": "2026-01-01T00:00:00.500000001Z"},
        {"log": "c", "stream": "stdout", "attrs": {"x": "y"}, "time": "2026-01-01T00:00:01Z"},
    ]
    data = b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in entries)
    runs = decoder("json-file").feed(data)
    assert lines(runs) == [("stdout", b"a\n"), ("stderr", b"b\\n\n"), ("stdout", b"c")]
    assert [run.time_text() for run in runs] == [
        b"2026-01-01T00:00:00.500000000Z", b"2026-01-01T00:00:00.500000001Z", b"2026-01-01T00:00:01.000000000Z",
    ]  # fmt: skip
    assert runs[2].attrs == b'{"x":"y"}'
    assert runs[1].time_ns() - runs[0].time_ns() == 1


def test_lines_that_are_none_are_passed_over() -> None:
    good = b'{"log":"a\\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}\n'
    data = (
        good
        + b'{"log":"cut sho\n'
        + b"\0" * 100
        + b"\n"
        + good[:-4]
        + b"\n"
        + b'{"log":"\\q","stream":"stdout","time":""}\n'
        + good
    )
    assert lines(decoder("json-file").feed(data)) == [("stdout", b"a\n")] * 2


def test_a_clock_that_goes_back_and_forth_loses_nothing() -> None:
    def entry(text: str, stream: str, second: int) -> bytes:
        return b'{"log":"%s\\n","stream":"%s","time":"2026-01-01T00:00:0%dZ"}\n' % (
            text.encode(),
            stream.encode(),
            second,
        )

    random.seed(1)
    made = [(f"l{number}", random.choice(["stdout", "stderr"]), random.randrange(2)) for number in range(3000)]
    runs = decoder("json-file").feed(b"".join(entry(*one) for one in made))
    got = [(text.decode(), run.stream, run.time_ns() // 10**9 % 10) for run in runs for text in run.lines]
    assert got == made


def test_records_that_are_none_end_the_file() -> None:
    for data in (bytes(100), b"\xff" * 100, b"\x00\x00\x00\x0a\x03" + bytes(20)):
        with pytest.raises(ValueError, match="not a record"):
            decoder("local").feed(data)
    assert decoder("local").feed(b"\x00\x00\x00\x0a\x01") == []
