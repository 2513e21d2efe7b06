"""What the tray shows of what is known of a machine."""

from __future__ import annotations

import re
from typing import Any

import pytest
from cove.tray import menu, tray, words
from cove.tray.containers import Container
from cove.tray.menu import Entry, Known, Look, look


def shown(status: dict[str, Any], **more: Any) -> Look:
    return look(Known("default", status, **more))


def texts(found: Look) -> list[str]:
    return [entry.text for entry in found.menu if entry.text]


def can_be_chosen(found: Look) -> set[str]:
    return {entry.action for entry in found.menu if entry.can_be_chosen}


ALWAYS = {menu.DASHBOARD, menu.QUIT}


@pytest.mark.parametrize(
    ("state", "icon", "actions"),
    [
        ("running", menu.RUNNING, {menu.STOP, menu.SUSPEND}),
        ("stopped", menu.STOPPED, {menu.START}),
        ("suspended", menu.SUSPENDED, {menu.START, menu.STOP}),
        ("starting", menu.BUSY, {menu.STOP}),
        ("stopping", menu.BUSY, set()),
        ("unknown", menu.TROUBLE, {menu.STOP}),
    ],
)
def test_each_state_has_its_icon_and_what_can_be_done(state: str, icon: str, actions: set[str]) -> None:
    found = shown({"state": state})
    assert found.icon == icon
    assert can_be_chosen(found) == actions | ALWAYS
    assert texts(found)[0] == f"Machine default: {state}"
    assert found.tip == f"Cove: machine default: {state}"


def test_before_anything_is_known_nothing_is_claimed() -> None:
    found = shown({})
    assert found.icon == menu.BUSY
    assert can_be_chosen(found) == ALWAYS


def test_a_machine_that_is_yet_to_be_made_can_be_started() -> None:
    found = shown({"state": "stopped", "missing": True})
    assert texts(found)[0] == "Machine default: not made yet"
    assert menu.START in can_be_chosen(found)


def test_one_that_is_suspended_is_resumed() -> None:
    assert "Resume" in texts(shown({"state": "suspended"}))
    assert "Start" in texts(shown({"state": "stopped"}))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"state": "paused", "trouble": "this computer's disk is full"}, "this computer's disk is full"),
        ({"state": "stopped", "crash": {"how": "QEMU ended", "words": [], "started_at": 1}}, "QEMU ended"),
        ({"state": "unknown", "trouble": "a setting is wrong"}, "a setting is wrong"),
    ],
)
def test_what_is_wrong_is_in_the_icon_and_in_words(status: dict[str, Any], words: str) -> None:
    found = shown(status)
    assert found.icon == menu.TROUBLE
    assert texts(found)[1] == words


def test_a_long_text_is_one_short_line() -> None:
    line = texts(shown({"state": "unknown", "trouble": "many words\n" * 50}))[1]
    assert len(line) == menu.MOST_LETTERS
    assert line.endswith("…")
    assert "\n" not in line


def test_what_is_under_way_is_shown_and_nothing_else_can_be_begun() -> None:
    found = shown({"state": "stopped"}, under_way=menu.START, progress="the kernel boots")
    assert found.icon == menu.BUSY
    assert texts(found)[:2] == ["Machine default: starting", "the kernel boots"]
    assert can_be_chosen(found) == ALWAYS


def test_progress_that_is_over_is_not_shown() -> None:
    assert "the kernel boots" not in texts(shown({"state": "running"}, progress="the kernel boots"))


def test_containers_have_their_state_and_their_ports() -> None:
    containers = [
        Container("web", "running", ("http://localhost:8080",)),
        Container("db", "exited"),
        Container("two", "running", ("http://localhost:1", "https://localhost:2")),
    ]
    found = shown({"state": "running"}, containers=containers)
    web, db, two = (entry for entry in found.menu if entry.text.startswith(("web", "db", "two")))
    assert web == Entry("web  (running)  localhost:8080", link="http://localhost:8080")
    assert (db.text, db.action) == ("db  (exited)", menu.DASHBOARD)
    assert [(each.text, each.link) for each in two.more] == [
        ("localhost:1", "http://localhost:1"),
        ("localhost:2", "https://localhost:2"),
    ]
    assert two.can_be_chosen


def test_of_many_containers_the_newest_are_shown_and_the_others_counted() -> None:
    containers = [Container(f"c{number}", "running") for number in range(300)]
    found = texts(shown({"state": "running"}, containers=containers))
    assert [text for text in found if text.startswith("c")] == [f"c{number}  (running)" for number in range(8)]
    assert "292 more…" in found


@pytest.mark.parametrize("state", ["stopped", "suspended", "starting"])
def test_a_machine_that_does_not_run_shows_no_containers(state: str) -> None:
    assert not [
        text for text in texts(shown({"state": state}, containers=[Container("web", "running")])) if "web" in text
    ]


def test_none_and_not_yet_known_are_told_apart() -> None:
    assert "No containers" in texts(shown({"state": "running"}, containers=[]))
    assert "Containers: …" in texts(shown({"state": "running"}))


@pytest.mark.parametrize("languages", [["ja-JP", "ja"], ["ja_JP.UTF-8"], ["de-DE", "ja-JP"]])
def test_it_speaks_japanese_where_the_desktop_does(languages: list[str]) -> None:
    assert texts(look(Known("default", {"state": "running"}), words.of(languages)))[0] == "マシン default: 実行中"


@pytest.mark.parametrize("languages", [["en-GB", "ja-JP"], ["de-DE"], ["C"], []])
def test_it_speaks_english_elsewhere(languages: list[str]) -> None:
    assert texts(look(Known("default", {"state": "running"}), words.of(languages)))[0] == "Machine default: running"


def test_in_japanese_nothing_is_left_in_english() -> None:
    some = [Container(f"c{number}", "exited", ()) for number in range(menu.MOST_CONTAINERS + 2)]
    for state in (
        "running",
        "stopped",
        "suspended",
        "starting",
        "stopping",
        "suspending",
        "resuming",
        "paused",
        "unknown",
    ):
        for containers in (None, [], some):
            found = look(Known("default", {"state": state}, containers=containers), words.japanese)
            for text in [found.tip, *texts(found)]:
                assert not re.search("[a-z]{3}", re.sub("default|Cove", "", text)), text
    for under_way in (menu.START, menu.STOP, menu.SUSPEND):
        assert (
            "処理中" in (tip := look(Known("default", {"state": "running"}, under_way=under_way), words.japanese).tip)
            or "起動中" in tip
        )
    for failed in tray.FAILED.values():
        assert words.japanese(failed, name="default") != words.english(failed, name="default")


def test_a_state_that_is_new_is_said_as_it_is() -> None:
    assert look(Known("default", {"state": "{odd}"}), words.japanese).tip == "Cove: マシン default: {odd}"
