"""How links are written, and their lines in /etc/hosts."""

from __future__ import annotations

import pytest
from coved.errors import EngineError, InvalidParameter
from coved.networks.links import changed, parse


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("db:cache", ("db", "cache")),
        ("db", ("db", "db")),
        ("db:", ("db", "")),
        (":x", ("", "x")),
        ("/db:/web/cache", ("db", "cache")),
        ("db:a/b", ("db", "a/b")),
    ],
)
def test_the_ways_to_write_a_link(text: str, meaning: tuple[str, str]) -> None:
    assert parse(text) == meaning


@pytest.mark.parametrize(
    ("text", "words"), [("", "empty string specified for links"), ("a:b:c", "bad format for links: a:b:c")]
)
def test_dockers_words_for_what_is_no_link(text: str, words: str) -> None:
    with pytest.raises(EngineError) as error:
        parse(text)
    assert (str(error.value), error.value.status) == (words, 500)


@pytest.mark.parametrize(
    "alias",
    ["a\n10.0.0.1 host", "a b", "a\tb", "..", "../up", "a/./b", "a//b", "/a", "a/", "#a", "\0", "\u2028", "x" * 256],
)
def test_an_alias_is_one_word_below_its_container(alias: str) -> None:
    with pytest.raises(InvalidParameter, match="bad format for links"):
        parse(f"db:{alias}")


HOSTS = "127.0.0.1\tlocalhost\n1.1.1.1\tdb HOST db1\n# 2.2.2.2 db\n3.3.3.3 \t other\n9.9.9.9\town"


def test_a_line_gets_another_address_and_the_rest_stays() -> None:
    assert changed(HOSTS, {"db": "1.1.1.2"}) == HOSTS.replace("1.1.1.1", "1.1.1.2")


def test_a_new_name_gets_a_line_and_one_without_address_loses_its() -> None:
    assert changed(HOSTS, {"new": "4.4.4.4"}) == HOSTS + "\n4.4.4.4\tnew\n"
    assert changed(HOSTS, {"db": ""}) == HOSTS.replace("1.1.1.1\tdb HOST db1\n", "")
    assert changed(HOSTS, {"absent": ""}) == HOSTS
    assert changed("", {"a": "1.2.3.4"}) == "1.2.3.4\ta\n"


def test_only_a_lines_first_name_counts_and_only_one_line_of_it_stays() -> None:
    assert changed(HOSTS, {"HOST": ""}) == HOSTS
    assert changed("1.1.1.1 a\n1.1.1.2 a\n", {"a": "5.5.5.5"}) == "5.5.5.5\ta\n"


def test_what_a_container_may_write_into_its_hosts_is_kept() -> None:
    text = "\r\n\n   \n#\n\udc80\udcff x\nlonely\n"
    assert changed(text, {"a": "1.1.1.1"}) == text + "1.1.1.1\ta\n"
