"""Times of --since and --until; the results and the words are those of docker's own CLI 28.2."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from cove.cli.errors import CliError
from cove.cli.timestamp import timestamp

NOW = 1_700_000_000.75


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as context:
        context.setenv("TZ", "XST-02:00")  # two hours east
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10s", "1699999990"),
        ("-1h", "1700003600"),
        ("1h30m5.5s", "1699994595"),
        ("0", "0"),
        ("1600000000.5", "1600000000.5"),
        ("1600000000.1234567891", "1600000000.1234567891"),
        ("2020-01-01", "1577829600.000000000"),
        ("2020-01-01Z", "1577836800.000000000"),
        ("2020-01-01T9", "1577862000.000000000"),
        ("2020-01-01T10:20", "1577866800.000000000"),
        ("2020-01-01T10:20:30", "1577866830.000000000"),
        ("2020-01-01T10:20:30.5", "1577866830.500000000"),
        ("2020-01-01T10:20:30.123456789Z", "1577874030.123456789"),
        ("2020-01-01T10:00-02:00", "1577880000.000000000"),
        ("2020-01-01T10:00:00+05:30", "1577853000.000000000"),
    ],
)
def test_times(text: str, expected: str) -> None:
    assert timestamp(text, NOW) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", 'failed to parse value as time or duration: "x"'),
        ("1.x", 'failed to parse value as time or duration: "1.x"'),
        ("99999999999999999999", 'failed to parse value as time or duration: "99999999999999999999"'),
        ("2020-01", 'parsing time "2020-01" as "2006-01-02": cannot parse "" as "-"'),
        ("2020-13-01", 'parsing time "2020-13-01": month out of range'),
        ("2020-02-30", 'parsing time "2020-02-30": day out of range'),
        ("2020-01-01 10:00", 'parsing time "2020-01-01 10:00": extra text: " 10:00"'),
        (
            "2020-01-01T10:00:00+0200",
            'parsing time "2020-01-01T10:00:00+0200" as "2006-01-02T15:04Z07:00": cannot parse ":00+0200" as "Z07:00"',
        ),
    ],
)
def test_what_is_no_time_is_refused_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(CliError) as error:
        timestamp(text, NOW)
    assert str(error.value) == message
