from urllib.parse import quote

import pytest
from coved.api.query import Query
from coved.errors import InvalidParameter
from coved.filters import Filters
from coved.times import parse_time_ns

NOW = 1_700_000_000_000_000_000


@pytest.mark.parametrize("text", ["1", "true", "True", "yes", "on", "anything"])
def test_true(text: str) -> None:
    assert Query(f"flag={text}").bool("flag")


@pytest.mark.parametrize("text", ["", "0", "false", "False", "no", "none", "%20"])
def test_false(text: str) -> None:
    assert not Query(f"flag={text}").bool("flag", default=True)


def test_getters() -> None:
    query = Query("a=1&b=x+y%2Fz&c=1&c=2&empty=&=")
    assert query.int("a") == 1
    assert query.int("missing", 7) == query.int("empty", 7) == 7
    assert query.str("b") == "x y/z"
    assert query.list("c") == ["1", "2"]
    assert "empty" in query and "missing" not in query


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, "invalid syntax") for text in ("x y/z", "1.5", "1_0", " 1", "\u0663", "--1", "0x1", "1e3", "\0")),
        *((text, "value out of range") for text in ("9223372036854775808", "-9223372036854775809", "9" * 5000)),
    ],
)
def test_numbers_that_are_none(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        Query(f"n={quote(text)}").int("n")
    assert str(refusal.value) == f'strconv.Atoi: parsing "{text[:64]}": {message}'


def test_numbers_of_64_bits() -> None:
    assert Query("n=9223372036854775807").int("n") == (1 << 63) - 1
    assert Query("n=-9223372036854775808").int("n") == -(1 << 63)
    assert Query("n=%2B5").int("n") == 5


@pytest.mark.parametrize("text", ['{"label": ["a=b", "c"]}', '{"label": {"a=b": true, "c": true, "d": false}}'])
def test_filters_of_both_forms(text: str) -> None:
    assert Filters.parse(text).get("label") == ["a=b", "c"]


@pytest.mark.parametrize("text", ["[]", "{", '{"label": "x"}', '{"label": [1]}', "1", "[" * 100_000])
def test_malformed_filters(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid filter"):
        Filters.parse(text)


def test_boolean_filters() -> None:
    assert Filters({"dangling": ["true"]}).flag("dangling")
    assert Filters({"dangling": ["1"]}).flag("dangling")
    assert not Filters({"dangling": ["false"]}).flag("dangling", default=True)
    assert Filters().flag("dangling", default=True)
    for wrong in (["maybe"], ["true", "false"]):
        with pytest.raises(InvalidParameter, match="invalid filter 'dangling="):
            Filters({"dangling": wrong}).flag("dangling")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"label": ["a"]}, True),
        ({"label": ["a=1"]}, True),
        ({"label": ["a=2"]}, False),
        ({"label": ["a", "b"]}, False),
        ({"label!": ["a"]}, False),
        ({"label!": ["a=2"]}, True),
    ],
)
def test_labels(filters: dict[str, list[str]], expected: bool) -> None:
    assert Filters(filters).matches_labels({"a": "1"}) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1700000000", NOW),
        ("1700000000.5", NOW + 500_000_000),
        ("1700000000.000000001", NOW + 1),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T23:13:20.123456789+01:00", NOW + 123_456_000),
        ("2023-11-14", NOW - 80_000 * 10**9),
        ("10m", NOW - 600 * 10**9),
        ("1h30m", NOW - 5400 * 10**9),
        ("1.5s", NOW - 1_500_000_000),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert parse_time_ns(text, now_ns=NOW) == expected


@pytest.mark.parametrize("text", ["yesterday", "5x", "2023-13-01", "nan", "1e9", "9" * 400 + "h", "\u0663h"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(InvalidParameter, match="failed to parse value as time or duration"):
        parse_time_ns(text, now_ns=NOW)
