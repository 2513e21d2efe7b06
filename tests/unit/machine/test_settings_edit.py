"""Changing one key leaves all else of the file as its owner wrote it."""

from __future__ import annotations

import pytest
import tomli
from cove.errors import SettingsError
from cove.machine import settings
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

MINE = """# about the box

cpus   =   2   # both of them
memory = '4GiB'


# the office
insecure_registries = [
    "a:5000",  # printer
    "b",
]
qemu = ""   # cpus = 9
"""


def test_nothing_but_the_value_changes() -> None:
    assert settings.with_value(MINE, "cpus", "4", "x") == MINE.replace("cpus   =   2", "cpus   =   4")
    assert settings.with_value(MINE, "insecure_registries", "c", "x") == MINE.replace(
        '[\n    "a:5000",  # printer\n    "b",\n]', '["c"]'
    )


def test_what_is_unset_leaves_its_place_to_what_is_set_again() -> None:
    without = settings.without_value(MINE, "cpus", "x")
    assert without == MINE.replace("cpus   =   2   # both", "# cpus = 2   # both")
    assert "cpus" not in tomli.loads(without)
    assert settings.with_value(without, "cpus", "5", "x") == MINE.replace("cpus   =   2   # both of them", "cpus = 5")


def test_a_list_of_several_lines_is_unset_whole() -> None:
    without = settings.without_value(MINE, "insecure_registries", "x")
    assert "printer" not in without
    assert "# insecure_registries = []" in without
    assert set(tomli.loads(without)) == {"cpus", "memory", "qemu"}


def test_what_is_not_set_stays_unset() -> None:
    assert settings.without_value(MINE, "disk", "x") == MINE


def test_line_ends_stay() -> None:
    text = MINE.replace("\n", "\r\n")
    for changed in (settings.with_value(text, "cpus", "4", "x"), settings.with_value(text, "disk", "9GiB", "x")):
        assert changed.count("\n") == changed.count("\r\n") > 10


def test_a_key_that_is_none_is_suggested() -> None:
    for name, meant in (("cpu", "cpus"), ("Memory", "memory"), ("insecure-registry", "insecure_registries")):
        with pytest.raises(SettingsError, match=rf"{name} is not a setting; did you mean {meant}\?"):
            settings.with_value("", name, "1", "x")
    with pytest.raises(SettingsError, match=r"^x:2:1: cpu is not a setting; did you mean cpus\?"):
        settings.parse("disk = '60GiB'\ncpu = 1\n", "x")
    with pytest.raises(SettingsError, match=r"zebra is not a setting$"):
        settings.without_value("", "zebra", "x")


KEYS = st.fixed_dictionaries(
    {}, optional={"cpus": st.integers(1, 9), "disk": st.sampled_from(["9GiB", "70GiB"]), "qemu": st.just("/q")}
)


@limits(deadline=None)
@given(KEYS, st.lists(st.text("ab #=[]\"'", max_size=12), max_size=4), st.sampled_from(["cpus", "disk", "qemu"]))
def test_whatever_is_in_the_file_others_keep_their_values(
    values: dict[str, object], comments: list[str], name: str
) -> None:
    lines = [f"{key} = {value!r}" for key, value in values.items()] + [f"# {text}" for text in comments]
    text = "\n".join(sorted(lines, key=len)) + "\n"
    typed = {"cpus": "5", "disk": "33GiB", "qemu": "/other"}[name]
    changed = settings.with_value(text, name, typed, "x")
    assert tomli.loads(changed) == values | {name: 5 if name == "cpus" else typed}
    assert tomli.loads(settings.without_value(changed, name, "x")) == {k: v for k, v in values.items() if k != name}
    assert [one for one in comments if f"# {one}" not in changed] in ([], [f"{name} = x"])
