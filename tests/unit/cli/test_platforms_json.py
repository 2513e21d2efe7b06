import json

import pytest
from cove.cli.errors import CliError
from cove.cli.platforms import to_json


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", {"os": "linux", "architecture": "amd64"}),
        ("arm64", {"os": "linux", "architecture": "arm64"}),
        ("Linux/AArch64/v8", {"os": "linux", "architecture": "arm64", "variant": "v8"}),
    ],
)
def test_what_the_engine_is_sent(text: str, expected: dict[str, str]) -> None:
    assert json.loads(to_json(text) or "") == expected


def test_none_and_the_system_alone() -> None:
    assert to_json("") is None
    assert set(json.loads(to_json("linux") or "")) == {"os", "architecture"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("foo", 'invalid platform: "foo": unknown operating system or architecture: invalid argument'),
        ("a/b/c/d", 'invalid platform: "a/b/c/d": cannot parse platform specifier: invalid argument'),
        ("fo o", 'invalid platform: "fo o" is an invalid OS component of "fo o": OSAndVersion specifier component must '
         'match "^([A-Za-z0-9_-]+)(?:\\\\(([A-Za-z0-9_.-]*)\\\\))?$": invalid argument'),
    ],
)  # fmt: skip
def test_what_docker_says_of_others(text: str, words: str) -> None:
    with pytest.raises(CliError) as refusal:
        to_json(text)
    assert str(refusal.value) == words
