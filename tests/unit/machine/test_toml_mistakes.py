"""What is wrong with a settings file is told on one line: where, what, and what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from cove.errors import SettingsError
from cove.machine import settings, tomlfile
from cove.machine.paths import MachinePaths


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cpus =", "1:7: not valid TOML: a value is missing"),
        ("\nmemory = 4GiB", '2:10: text is written in quotes: memory = "4GiB"'),
        ("qemu = C:\\qemu.exe", "1:8: text is written in quotes: qemu = 'C:\\qemu.exe'"),
        ("suspend_running = True # yes", "1:19: true and false are written in small letters: suspend_running = true"),
        (
            "http_proxy = http://joe:hunter2@proxy:1",
            '1:14: text is written in quotes: http_proxy = "http://xxxxx:xxxxx@proxy:1"',
        ),
        ("cpus = 2\n\ncpus = 3", "3:1: cpus is there before, on line 1: remove one of them"),
        ("cpus 4", "1:6: not valid TOML: a line is KEY = VALUE"),
        ("cpus: 4", "1:5: not valid TOML: a line is KEY = VALUE"),
        ("cpus = 4,", "1:9: not valid TOML: there is more on the line than KEY = VALUE"),
        ('memory = "4GiB\ncpus = 1', "1:15: not valid TOML: quotes are opened and not closed"),
        ('memory = "4GiB', "1:15: not valid TOML: quotes are opened and not closed"),
        (
            'qemu = "C:\\x"',
            "1:13: not valid TOML: a backslash in double quotes begins an escape: use single quotes, '...'",
        ),
        ("shared_folders = [/data]", "1:19: not valid TOML: this is no value; text is written in quotes"),
        ("a = " + "[" * 5000, "1:1: not valid TOML: nested too deeply"),
    ],
)
def test_what_is_no_toml_is_told_on_one_line(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as told:
        settings.parse(text, "x.toml")
    assert (told.value.message, told.value.hint) == (f"x.toml:{said}", "edit x.toml")


def test_all_mistakes_are_told_each_on_its_line() -> None:
    text = '# mine\ncpus = 0\n  "memory"  =  "1XB"\n[colours]\nred = 1\n'
    with pytest.raises(SettingsError) as told:
        settings.parse(text, "x.toml")
    assert told.value.message.splitlines() == [
        "x.toml:2:8: cpus must be a whole number from 1 to 256, not 0",
        "x.toml:3:16: memory '1XB' is not a size such as 2GiB, 1.5g, 512MB or 2147483648",
        "x.toml:4:2: colours is not a setting",
    ]
    assert told.value.hint == "edit x.toml"


def test_of_one_mistake_it_is_told_what_is_allowed() -> None:
    with pytest.raises(SettingsError) as told:
        settings.parse("cpus = 0", "x.toml")
    assert told.value.hint == "allowed: whole number, 1 to 256\nedit x.toml"


def test_a_machines_file_is_mended_by_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVE_HOME", str(tmp_path))
    assert tomlfile.way_out(MachinePaths("default").settings) == "mend it with: cove config edit"
    assert tomlfile.way_out(MachinePaths("work").settings) == "mend it with: cove config edit -m work"
    assert tomlfile.way_out(tmp_path / "work/machine.toml") == f"edit {tmp_path / 'work/machine.toml'}"
