"""What only a publisher can say stands in one file, and what it does not say is known to be a placeholder."""

from __future__ import annotations

from pathlib import Path

import pytest
from making import publisher


def test_what_is_said_counts_and_what_is_not_is_a_placeholder(tmp_path: Path) -> None:
    file = tmp_path / "publisher.toml"
    file.write_text('name = "Example, Inc."\nlicence = "Apache-2.0"\n')
    found, placeholders = publisher.read(file)
    assert (found.name, found.licence) == ("Example, Inc.", "Apache-2.0")
    assert placeholders == ["email", "homepage", "releases", "macos_identifier", "winget_identifier"]
    assert found.releases.startswith("https://cove.invalid/")


@pytest.mark.parametrize("line", ['nmae = "x"', "name = 1", 'name = ""'])
def test_what_is_no_setting_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "publisher.toml"
    file.write_text(line)
    with pytest.raises(RuntimeError, match="known are name, email"):
        publisher.read(file)


def test_the_file_that_is_filled_in_names_each_setting() -> None:
    _, placeholders = publisher.read()
    text = publisher.FILE.read_text()
    assert all(f"\n# {name} = " in text for name in placeholders)


def test_installers_name_the_publisher(installers: Path) -> None:
    winget = "".join(path.read_text() for path in (installers / "winget").iterdir())
    formula = (installers / "homebrew/cove.rb").read_text()
    for value in (publisher.PUBLISHER.homepage, publisher.PUBLISHER.releases, publisher.PUBLISHER.licence):
        assert value in winget
        assert value in formula
    assert publisher.PUBLISHER.name in winget
