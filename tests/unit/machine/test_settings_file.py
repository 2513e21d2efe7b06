"""A machine's settings: mistakes are named with file, line and key; the document is made from the schema."""

from __future__ import annotations

from pathlib import Path

import pytest
from cove.errors import CoveError, SettingsError
from cove.machine import policy, settings, settings_page
from cove.machine.paths import validate_name


def test_what_init_writes_is_read_back_the_same() -> None:
    assert settings.parse(settings.render(settings.Settings(cpus=3)), "x") == settings.Settings(cpus=3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cpus = 0\n", r"^machine.toml:1:8: cpus must be a whole number"),
        ("\nmemory = 5\n", r":2:10: memory must be a size in quotes"),
        ("nonsense = 1\n", r":1:1: nonsense is not a setting"),
        ("cpus = \n", r"^machine.toml:1:8: not valid TOML: a value is missing$"),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        settings.parse(text, "machine.toml")


@pytest.mark.parametrize("key", ["http_proxy", "no_proxy", "registry_mirrors", "insecure_registries"])
@pytest.mark.parametrize("value", ['"joe:hunter2@proxy:1"', '["joe:hunter2@proxy:1"]', '"http://joe:hun/ter2@proxy:1"'])
def test_a_mistake_is_told_without_a_password(key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"machine.toml:1:\d+: {key} must .*@proxy:1") as told:
        settings.parse(f"{key} = {value}\n", "machine.toml")
    assert "ter2" not in told.value.message + told.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("qemu", '"~nobodyhere/q"'),
        ("shared_folders", '["/a", "~nobodyhere/x:ro"]'),
        ("extra_certificates", '["~nobodyhere/x.pem"]'),
        ("ssh_agent", '"~nobodyhere"'),
    ],
)
def test_the_home_of_nobody_is_a_mistake_like_others(key: str, value: str) -> None:
    said = f"{key} must be below a home folder that is there, not '~nobodyhere.*': there is no user nobodyhere"
    with pytest.raises(SettingsError, match=rf"machine.toml:1:\d+: {said}"):
        settings.parse(f"{key} = {value}", "machine.toml")
    with pytest.raises(SettingsError, match=rf"policy.toml:2:\d+: {said}"):
        policy.parse(f"[locked]\n{key} = {value}", Path("policy.toml"))
    with pytest.raises(SettingsError, match=said):
        settings.with_value("", key, value, "x")


def test_set_keeps_comments() -> None:
    text = settings.with_value(settings.render(settings.Settings()), "memory", "4GiB", "x")
    assert settings.parse(text, "x").memory == 4 << 30
    assert text.count("#") == settings.render(settings.Settings()).count("#")


def test_a_link_stays_one_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    kept, link = tmp_path / "dotfiles/cove.toml", tmp_path / "machine.toml"
    kept.parent.mkdir()
    kept.write_text("cpus = 1 # few\n")
    link.symlink_to(kept)
    settings.set_value(link, "cpus", "3")
    assert link.is_symlink()
    assert kept.read_text() == "cpus = 3 # few\n"
    assert {*tmp_path.rglob("*")} == {kept.parent, kept, link}


@pytest.mark.parametrize(
    "typed",
    [
        "a:5000,b:5000",
        " a:5000 , b:5000,",
        '["a:5000", "b:5000"]',
        "['a:5000','b:5000']",
        '["a:5000", "b:5000"]\ncpus = 1',
    ],
)
def test_a_list_is_written_as_it_is_printed_or_with_commas(typed: str) -> None:
    text = settings.with_value("", "insecure_registries", typed, "x")
    assert text == 'insecure_registries = ["a:5000", "b:5000"]\n'
    assert settings.with_value(text, "insecure_registries", "", "x") == "insecure_registries = []\n"


@pytest.mark.parametrize("name", [*settings.SCHEMA])
def test_what_is_printed_can_be_set(name: str) -> None:
    key = settings.SCHEMA[name]
    assert settings.parse(settings.with_value("", name, key.show(key.default), "x"), "x") == settings.Settings()


def test_a_list_that_is_none_is_told_how_to_write_it() -> None:
    with pytest.raises(SettingsError, match=r'must be written as \["a:5000", "b:5000"\] or a:5000,b:5000, not'):
        settings.with_value("", "insecure_registries", '["a:5000"', "x")
    with pytest.raises(SettingsError, match="must be a list of texts"):
        settings.with_value("", "insecure_registries", "[1]", "x")


def test_a_key_that_stands_as_a_comment_is_set_there() -> None:
    before = settings.render(settings.Settings())
    after = settings.with_value(before, "insecure_registries", "a:5000", "x")
    assert after == before.replace("# insecure_registries = []", 'insecure_registries = ["a:5000"]')
    assert settings.with_value(after, "insecure_registries", "", "x") == before.replace(
        "# insecure_registries = []", "insecure_registries = []"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "cpus = 3\n"),
        (settings.HEADER + "\nqemu = ''\n", settings.HEADER + "\ncpus = 3\n\nqemu = ''\n"),
        ("# cpus = 1\ncpus = 2 # two\n", "# cpus = 1\ncpus = 3 # two\n"),
    ],
)
def test_where_a_key_is_set(before: str, after: str) -> None:
    assert settings.with_value(before, "cpus", "3", "x") == after


def test_a_list_of_several_lines_is_replaced_whole() -> None:
    text = 'insecure_registries = [\n  "[::1]:5000",\n  "b",\n]\ncpus = 1\n'
    assert settings.with_value(text, "insecure_registries", "c", "x") == 'insecure_registries = ["c"]\ncpus = 1\n'


def test_the_document_is_the_schemas() -> None:
    assert (Path(__file__).parents[3] / "docs/settings.md").read_text() == settings_page.reference()


@pytest.mark.parametrize("key", settings.SCHEMA.values(), ids=[*settings.SCHEMA])
def test_each_setting_says_when_it_takes_effect(key: settings.Key) -> None:
    when = "at once" if key.at_once else "at the machine's next start"
    _, _, section = settings_page.reference().partition(f"\n## `{key.name}`\n")
    assert f"\n* takes effect: {when}\n" in section.partition("\n## ")[0]
    before, _, _ = settings.render(settings.Settings()).partition(f"{key.name} = ")
    assert before.removesuffix("# ").splitlines()[-1].endswith(f"; takes effect {when})")


@pytest.mark.parametrize("name", ["", "A", "-a", "a/b", "..", "a" * 40])
def test_names_that_cannot_be_folders_are_refused(name: str) -> None:
    with pytest.raises(CoveError):
        validate_name(name)
