"""Whatever `cove diagnose` can find wrong has its row in docs/troubleshooting.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from cove.support import computer, diagnose, folders, machine, outside
from coved.outside import proxy_problem

PAGE = (Path(__file__).parents[3] / "docs" / "troubleshooting.md").read_text("utf-8")
BAD = {"WARNING", "PROBLEM"}


def findings(module: object) -> Iterator[tuple[int, str]]:
    """Line and longest fixed words of each bad finding that a module of checks yields; an error's own words are not among them."""
    file = getattr(module, "__file__", None)
    assert file is not None
    for node in ast.walk(ast.parse(Path(file).read_text("utf-8"))):
        if not isinstance(node, ast.Yield) or not isinstance(node.value, ast.Tuple):
            continue
        state, text, *_ = node.value.elts
        if isinstance(state, ast.Name) and state.id in BAD:
            words = [
                part.value for part in ast.walk(text) if isinstance(part, ast.Constant) and isinstance(part.value, str)
            ]
            if words := [word for word in words if len(word) > 8]:
                yield node.lineno, max(words, key=len).strip(" ,:;()'")


@pytest.mark.parametrize(("module", "least"), [(computer, 9), (machine, 9), (outside, 5), (folders, 1)])
def test_every_finding_has_its_row(module: object, least: int) -> None:
    found = [*findings(module)]
    assert len(found) >= least
    rows = " ".join(PAGE.split())
    assert not [f"line {line}: {words!r}" for line, words in found if " ".join(words.split()) not in rows]


@pytest.mark.parametrize("address", ["socks5://a:1", "http://:3128", "http://[a", "http://a/\x7f"])
def test_every_mistake_in_a_proxys_address_has_its_row(address: str) -> None:
    assert f"{proxy_problem(address)}`" in PAGE


def test_every_check_has_its_row() -> None:
    assert [each.name for each in diagnose.checks("default", {}) if f"\n| {each.name} | " not in PAGE] == []
