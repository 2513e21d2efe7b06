"""What a user has chosen of the page is there with the next dashboard, and is nothing but a choice."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cove.dashboard import choices

PAGE = '<!doctype html><html lang="en"><head><title>Cove</title></head></html>'


def put(dashboard: Any, chosen: object) -> Any:
    return dashboard.browse("PUT", "api/choices", json.dumps(chosen).encode())


def test_the_next_dashboard_has_what_was_chosen_with_the_one_before(serving: Callable[..., Any], assets: Path) -> None:
    (assets / "index.html").write_text(PAGE)
    first = serving()
    first.enter()
    assert first.browse("GET", "").body.decode() == PAGE.replace('lang="en"', 'lang="en" data-choices="{}"')
    assert put(first, {"language": "ja"}).json == {"language": "ja"}
    assert put(first, {"theme": "dark", "toured": "yes"}).status == 200
    first.loop.call_soon_threadsafe(first.service.end)
    first.thread.join(30)
    other = serving()
    other.enter()
    chosen = {"language": "ja", "theme": "dark", "toured": "yes"}
    assert other.browse("GET", "api/choices").json == chosen
    page = other.browse("GET", "").body.decode()
    assert '<html lang="ja"' in page
    assert 'data-theme="dark"' in page
    found = re.search(r'data-choices="([^"]*)"', page)
    assert found is not None
    assert json.loads(html.unescape(found[1])) == chosen


def test_colours_as_the_system_has_them_are_no_colours_of_the_pages(dashboard: Any, assets: Path) -> None:
    (assets / "index.html").write_text(PAGE)
    put(dashboard, {"theme": "dark"})
    put(dashboard, {"theme": "system"})
    assert b"data-theme" not in dashboard.browse("GET", "").body


@pytest.mark.parametrize(
    "wish",
    [
        {"theme": '"><script>'}, {"theme": ["dark"]}, {"theme": None}, {"unknown": "yes"}, {"language": "en", "reader": "maybe"}, [],
        "dark", 1, None,
    ],
)  # fmt: skip
def test_what_is_no_choice_is_refused_and_changes_nothing(dashboard: Any, wish: object) -> None:
    put(dashboard, {"language": "ja"})
    assert put(dashboard, wish).status == 422
    assert dashboard.browse("GET", "api/choices").json == {"language": "ja"}


def test_a_long_wish_is_not_read(dashboard: Any) -> None:
    assert dashboard.browse("PUT", "api/choices", b" " * (choices.MAX_BODY + 1)).status == 413


@pytest.mark.parametrize("text", ["", "[", "[1]", '{"theme": "pink", "other": "yes"}', "[" * 5000, "\x00"])
def test_a_file_that_is_something_else_is_no_choice(dashboard: Any, text: str) -> None:
    choices.place().parent.mkdir(parents=True, exist_ok=True)
    choices.place().write_text(text)
    assert dashboard.browse("GET", "api/choices").json == {}
    assert dashboard.browse("GET", "").status == 200


def test_that_it_cannot_be_kept_is_told(dashboard: Any) -> None:
    choices.place().parent.parent.mkdir(parents=True, exist_ok=True)
    choices.place().parent.write_text("no folder")
    answer = put(dashboard, {"theme": "dark"})
    assert answer.status == 500
    assert "cannot be kept" in answer.json["message"]


def test_nobody_else_reads_or_changes_it(dashboard: Any) -> None:
    assert dashboard.browse("GET", "api/choices", Cookie="cove_dashboard=other").status == 401
    assert dashboard.browse("PUT", "api/choices", b"{}", Origin="http://127.0.0.1:8080").status == 403
