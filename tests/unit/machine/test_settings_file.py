"""A machine's settings: mistakes are named with file, line and key; the document is made from the schema."""

from __future__ import annotations

from pathlib import Path

import pytest
from cove.errors import CoveError, SettingsError
from cove.machine import settings
from cove.machine.paths import validate_name


def test_what_init_writes_is_read_back_the_same() -> None:
    assert settings.parse(settings.render(settings.Settings(cpus=3)), "x") == settings.Settings(cpus=3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cpus = 0\n", r"machine.toml, line 1: cpus must be a whole number"),
        ("\nmemory = 5\n", r"line 2: memory must be a size in quotes"),
        ("nonsense = 1\n", r"line 1: nonsense is not a setting"),
        ("cpus = \n", r"machine.toml, line 1: not valid TOML"),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        settings.parse(text, "machine.toml")


def test_set_keeps_comments() -> None:
    text = settings.with_value(settings.render(settings.Settings()), "memory", "4GiB", "x")
    assert settings.parse(text, "x").memory == 4 << 30
    assert text.count("#") == settings.render(settings.Settings()).count("#")


def test_the_document_is_the_schemas() -> None:
    assert (Path(__file__).parents[3] / "docs/settings.md").read_text() == settings.reference()


@pytest.mark.parametrize("name", ["", "A", "-a", "a/b", "..", "a" * 40])
def test_names_that_cannot_be_folders_are_refused(name: str) -> None:
    with pytest.raises(CoveError):
        validate_name(name)
