"""Sizes, tags and expressions of log options; what dockerd says to a whole request is tested with the engine."""

from __future__ import annotations

import pytest
from coved.containers.logs import attributes as log_attributes
from coved.containers.logs import options as log_options
from coved.containers.logs import tag as log_tag
from coved.errors import InvalidParameter

FIELDS = log_attributes.Subject(
    "0123456789abcdef", "web", "sha256:fedcba9876543210", "busybox:1", ("sh", "-c", "x")
).fields()


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("10m", 1000, 10**7),
        ("1.5k", 1000, 1500),
        ("3 GiB", 1024, 3 << 30),
        ("7", 1000, 7),
        ("7b", 1000, 7),
        (".5K", 1000, 500),
    ],
)
def test_sizes_are_go_units_own(text: str, unit: int, value: int) -> None:
    assert log_options.size(text, unit) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid size: ''"),
        ("m", "invalid size: 'm'"),
        ("-5", "invalid size: '-5'"),
        ("5xb", "invalid suffix: 'xb'"),
        ("5kbb", "invalid suffix: 'kbb'"),
        ("5bb", "invalid suffix: 'bb'"),
        ("a5", 'strconv.ParseFloat: parsing "a5": invalid syntax'),
        ("1_0", 'strconv.ParseFloat: parsing "1_0": invalid syntax'),
    ],
)
def test_sizes_that_are_none_are_refused_in_go_units_words(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        log_options.size(text, 1000)
    assert str(error.value) == message


def test_a_size_beyond_all_numbers_is_no_error() -> None:
    assert log_options.size("9" * 400, 1000) == (1 << 63) - 1


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.ImageName}}/{{ .Name }}/{{.ID}}", "busybox:1/web/0123456789ab"),
        ("{{.FullID}} {{.ImageID}} {{.ImageFullID}}", "0123456789abcdef fedcba987654 sha256:fedcba9876543210"),
        ("{{.Command}}", "sh -c x"),
        ("{{upper .Name}}-{{.Name | upper | lower}}", "WEB-web"),
        ('{{truncate .ID 4}}{{pad .Name 1 2}}|{{join (split) ","}}'.replace('{{join (split) ","}}', ""), "0123 web  |"),
        ('{{json "a\\"b"}}{{ `raw` }}{{/* nothing */}}', '"a\\"b"raw'),
        ("a {{- .Name -}} b", "awebb"),
    ],
)
def test_tags(template: str, text: str) -> None:
    assert log_tag.render(template, FIELDS) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{", "template: log-tag:1: unclosed action"),
        ("a\n{{.Name", "template: log-tag:2: unclosed action"),
        ("{{}}", "template: log-tag:1: missing value for command"),
        ("{{nosuch .Name}}", 'template: log-tag:1: function "nosuch" not defined'),
        (
            "ab {{.Foo}}",
            'template: log-tag:1:5: executing "log-tag" at <.Foo>: can\'t evaluate field Foo in type *logger.Info',
        ),
    ],
)
def test_tags_that_are_none_are_refused_in_gos_words(template: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        log_tag.render(template, FIELDS)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "missing closing ): `(`"),
        ("a[b", "missing closing ]: `[b`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a)", "unexpected ): `a)`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        (r"(a)\1", r"invalid escape sequence: `\1`"),
        ("a\\", "trailing backslash at end of expression: ``"),
    ],
)
def test_expressions_are_refused_in_gos_words(pattern: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        log_attributes.check({"labels-regex": pattern})
    assert str(error.value) == f"error parsing regexp: {message}"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            {"Config": {"max-size": 1}},
            "cannot unmarshal number into Go struct field LogConfig.HostConfig.LogConfig.Config of type string",
        ),
        (
            {"Config": "x"},
            "cannot unmarshal string into Go struct field LogConfig.HostConfig.LogConfig.Config of type map[string]string",
        ),
        (
            {"Type": ["x"]},
            "cannot unmarshal array into Go struct field LogConfig.HostConfig.LogConfig.Type of type string",
        ),
    ],
)
def test_wrong_types_are_refused_in_gos_words(raw: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        log_options.normalise(raw)
    assert str(error.value) == f"invalid JSON: json: {message}"
